// The files of the demo's sshd: its configuration, its PAM stack, its users, the helper that knows the sandbox, and the
// script that puts them into the places where sshd and PAM look, in a mount namespace of its own.

import type { Sandbox } from '../sandbox.js';
import { moduleFile, needProgram, ownCommand } from './programs.js';

/** A user who can log in there, and only there. */
export interface DemoUser {
  readonly name: string;
  readonly uid: number;
}

/** Where the demo's own files are for those who are in the namespace. */
const inside = '/run/demo';
/** Of machines without a journal (login-log.ts), as the namespace is one. */
export const loginLog = '/run/slurm-cgroups/logins.log';

/** Where the files are for those who are outside. */
export function folderIn({ folder }: Pick<Sandbox, 'folder'>): string {
  return `${folder}/login`;
}

interface Wanted {
  readonly sandbox: Pick<Sandbox, 'host' | 'folder' | 'within'>;
  readonly port: number;
  readonly users: readonly DemoUser[];
}

/** The files of its folder, each as lines. */
export function filesOfSshd({ sandbox, port, users }: Wanted): Readonly<Record<string, readonly string[]>> {
  const { host } = sandbox;
  const folder = folderIn(sandbox);
  const options = `helper=${inside}/slurm-cgroups profile=strict budget=30s`;
  const ours = `${inside}/pam_slurm_cgroups.so ${options}`;
  const names = users.map(({ name }) => name);
  return {
    pam: [
      'auth required pam_unix.so',
      'account required pam_unix.so',
      `account required ${ours}`,
      'session required pam_unix.so',
      `session required ${ours}`,
    ],
    // The first line of a name or a uid counts.
    passwd: [
      ...users.map(({ name, uid }) => `${name}:x:${uid}:${uid}:demo of slurm-cgroups:${inside}/home:/bin/sh`),
      host.read('/etc/passwd').trimEnd(),
    ],
    shadow: names.map((name) => `${name}:*:::::::`),
    // The module starts it with the word `pam` and without an environment. It adds the sandbox, and a configuration that
    // is not there: that of a real node counts for its own jobs.
    helper: [
      '#!/bin/sh',
      `exec ${ownCommand.map(quoted).join(' ')} "$@" --within ${sandbox.within} --config ${inside}/config.json`,
    ],
    sshd_config: [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${folder}/host`,
      `AuthorizedKeysFile ${inside}/home/authorized_keys`,
      `AllowUsers ${names.join(' ')}`,
      'UsePAM yes',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'UseDNS no',
      'PidFile none',
      'PrintMotd no',
      'PrintLastLog no',
    ],
    ssh_config: [
      `Port ${port}`,
      `IdentityFile ${folder}/key`,
      'IdentitiesOnly yes',
      'IdentityAgent none',
      'BatchMode yes',
      'PreferredAuthentications publickey',
      `UserKnownHostsFile ${folder}/known_hosts`,
      'GlobalKnownHostsFile /dev/null',
      'StrictHostKeyChecking yes',
      'UpdateHostKeys no',
      'ConnectTimeout 10',
      // Where the demo is killed while the job is frozen, nothing else ends the client.
      'ServerAliveInterval 4',
      'ServerAliveCountMax 1',
    ],
    known_hosts: [`[127.0.0.1]:${port} ${host.read(`${folder}/host.pub`).trim()}`],
    start: startLines(sandbox, needProgram(host, 'sshd')),
  };
}

/**
 * A file system of its own is what /run is there: programs can be run from it, which many a /run does not allow; sshd
 * finds the folder that it shuts itself in; no journal, no daemon for names and no log of logins is found.
 */
function startLines(sandbox: Pick<Sandbox, 'folder'>, sshd: string): readonly string[] {
  const folder = folderIn(sandbox);
  return [
    'set -e',
    'umask 022',
    `cd ${folder}`,
    'chmod 644 passwd',
    'mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run',
    `mkdir -p run/sshd run/demo/home .${sandbox.folder}`,
    'cp helper run/demo/slurm-cgroups',
    `cp ${quoted(moduleFile)} run/demo/`,
    'cp key.pub run/demo/home/authorized_keys',
    'chmod 755 run/demo/slurm-cgroups run/demo/pam_slurm_cgroups.so',
    `mount --bind ${sandbox.folder} .${sandbox.folder}`,
    'mount --bind pam /etc/pam.d/sshd',
    'mount --bind passwd /etc/passwd',
    'mount --bind shadow /etc/shadow',
    'if [ -S /dev/log ]; then mount --bind /dev/null /dev/log; fi',
    'mount --rbind run /run',
    `${sshd} -t -f ${folder}/sshd_config`,
    `${sshd} -D -f ${folder}/sshd_config -E ${folder}/log </dev/null &`,
    'read -r line || :',
    'kill $!',
  ];
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
