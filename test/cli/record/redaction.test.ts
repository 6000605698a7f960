import { describe, expect, it } from 'vitest';
import { redactedLine, redactedText } from '../../../src/cli/record/redaction.js';
import type { Setting } from '../../../src/jobs/config/includes.js';
import { readKeys, settingsOf } from '../../../src/jobs/config/values.js';

const title = 'slurmstepd: [7.extern]\0';

describe('redactedText()', () => {
  it.each([
    // Slurm's: what a key of ours says, on the line where it stood.
    ['/etc/slurm/slurm.conf', 'ClusterName=x AccountingStoragePass=S\n', 'ClusterName=x left_out=left-out\n'],
    ['/etc/slurm/slurm.conf', 'AccountingStoragePass=\\\nS\nSlurmUser=slurm\n', '\n\nSlurmUser=slurm\n'],
    ['/etc/slurm/slurm.conf', '#Pass=S\nSlurmUser=a # S\n', '\nSlurmUser=a\n'],
    ['/etc/slurm/slurm.conf', 'JobCompLoc=https://u:S@host/\n', '\n'],
    ['/etc/slurm/slurm.conf', 'StoragePass = "S b"\n', '\n'],
    ['/etc/slurm/slurm.conf', 'StoragePass=S T\n', 'left-out\n'],
    ['/etc/slurm/slurm.conf', 'LaunchParameters="a,b c"\n', 'LaunchParameters="a,b c"\n'],
    ['/etc/slurm/slurm.conf', 'LaunchParameters=http://u:S@h/\n', 'LaunchParameters=http://left-out@h/\n'],
    ['/etc/slurm/slurm.conf', 'SlurmdSpoolDir=/a\\#b\\\\c\n', 'SlurmdSpoolDir=/a\\#b\\\\c\n'],
    ['/etc/slurm/slurm.conf', 'nodename=n[1-2] CPUs=4 Extra=S NodeHostname=h\n', 'nodename=n[1-2] NodeHostname=h\n'],
    ['/etc/slurm/slurm.conf', 'SlurmUser=a\\', 'SlurmUser=a left-out'],
    ['/etc/slurm/slurm.conf', 'Include extra.conf S\n', 'Include extra.conf left-out\n'],
    ['/etc/slurm/slurmdbd.conf', 'StorageUser=u\nStoragePass=S\n', '\n\n'],
    ['/srv/anything', 'password: S\nS\n', 'left-out\nleft-out\n'],
    ['/etc/slurm/jwt.key', 'S\0S', undefined],
    // Processes.
    ['/proc/9/environ', 'S', undefined],
    ['/proc/9/task/10/environ', 'S', undefined],
    ['/proc/self/cmdline', 'S', undefined],
    ['/proc/cmdline', 'rd.password=S', undefined],
    ['/proc/9/cmdline', `${title}S`, undefined],
    ['/proc/9/cmdline', title, title],
    ['/proc/9/comm', 'sleep\n', 'sleep\n'],
    [
      '/proc/self/mountinfo',
      '9 1 0:9 / /m rw - cifs //u:p@h rw,password=S\n8 1 0:8 / /d ro - davfs https://u:S@h ro,x\n7 1 0:7 / /c rw - cgroup cgroup rw,memory\n',
      '9 1 0:9 / /m rw - cifs //u:p@h rw\n8 1 0:8 / /d ro - davfs https://left-out@h ro\n7 1 0:7 / /c rw - cgroup cgroup rw,memory\n',
    ],
    // Users.
    ['/etc/passwd', 'a:$6$S:1001:1001:A Person,S:/home/a:/bin/sh\nbroken\n', 'a:x:1001::::\n\n'],
    ['/etc/login.defs', '# S\nUID_MIN\t\t 1000 # S\nENCRYPT_METHOD S\n', '\nUID_MIN\t\t 1000\n\n'],
    // Logins.
    [
      '/etc/pam.d/sshd',
      '# S\n@include common-auth\naccount required pam_mysql.so user=u passwd=S\naccount required \\\n pam_slurm_adopt.so action_unknown=newest # S\n-session [success=1 default=ignore] /x/pam_exec.so /bin/a --token S\nS\n',
      '\n@include common-auth\naccount required pam_mysql.so\naccount required   pam_slurm_adopt.so action_unknown=newest\n\n-session [success=1 default=ignore] /x/pam_exec.so\n\n',
    ],
    [
      '/etc/pam.d/sshd',
      'session required pam_exec.so /usr/sbin/slurm-cgroups pam\n',
      'session required pam_exec.so /usr/sbin/slurm-cgroups pam\n',
    ],
    [
      '/etc/ssh/sshd_config',
      '#S\nUsePAM yes # S\nSetEnv A=S\nForceCommand x S\nMatch exec "x S"\nMatch all\nInclude /etc/ssh/sshd_config.d/*.conf\nMaxStartups 10:30:100\n',
      '\nUsePAM yes\n\n\nMatch left-out\nMatch all\nInclude /etc/ssh/sshd_config.d/*.conf\nMaxStartups 10:30:100\n',
    ],
    ['/etc/ssh/sshd_config.d/50-x.conf', 'UsePAM=no\nBanner S\n', 'UsePAM no\n\n'],
    ['/etc/systemd/logind.conf', '[Login]\n#RemoveIPC=no\n#S\nX=S\n', '[Login]\n#RemoveIPC=no\n\n\n'],
    ['/etc/os-release', 'PRETTY_NAME="Debian"\nX=S\n', 'PRETTY_NAME="Debian"\n\n'],
    // Our own answers stand under names that are no paths.
    ['slurmd', '{"file":"/etc/slurm/slurm.conf"}', '{"file":"/etc/slurm/slurm.conf"}'],
  ])('of %s, %j keeps %j', (file, text, kept) => {
    expect(redactedText(file, text)).toBe(kept);
  });

  it('keeps each key that the configuration is read for', () => {
    const asked = new Set<string>();
    class Asked extends Map<string, Setting> {
      override get(key: string): Setting | undefined {
        asked.add(key);
        return undefined;
      }
    }
    const config = { settings: new Asked(), nodes: [], files: [], leftOut: [], notes: [] };
    settingsOf(config, config);
    expect([...asked, 'nodename'].sort()).toEqual([...readKeys].sort());
  });
});

describe('redactedLine()', () => {
  it('takes texts alone, and leaves out what no recording holds', () => {
    const listing = JSON.stringify({ list: '/etc', entries: { passwd: 'file' } });
    expect(redactedLine(listing)).toBe(listing);
    const line = (read: string, text: string) => JSON.stringify({ read, text });
    expect(redactedLine(line('/proc/9/environ', 'S'))).toBeUndefined();
    expect(redactedLine(line('/etc/slurm/slurm.conf', 'SlurmUser=a\nStoragePass=S\n'))).toBe(
      line('/etc/slurm/slurm.conf', 'SlurmUser=a\n\n'),
    );
  });

  it('is shown in a terminal as it is', () => {
    expect(redactedLine(JSON.stringify({ read: '/proc/9/comm', text: '\u009b31m\n' }))).toBe(
      '{"read":"/proc/9/comm","text":"\\u009b31m\\n"}',
    );
  });
});
