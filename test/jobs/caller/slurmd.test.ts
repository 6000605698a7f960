// The programs called scontrol here are scripts of root's: what a real one says is asked of real Slurm
// (test/slurm/caller-id.slurm.ts), and its words are those that were measured.

import fs from 'node:fs';
import process from 'node:process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CallerIdQuestion } from '../../../src/jobs/caller/question.js';
import { askSlurmd, findScontrol, readScontrol } from '../../../src/jobs/caller/slurmd.js';
import type { SlurmNode } from '../../../src/jobs/node.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { failingHost } from '../../../src/machine/failing.js';
import { configFiles } from '../../../src/machine/guarded-files.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { connectionOf, said } from '../../support/callers.js';
import { rootTest } from '../../support/test-cgroups.js';

const host = liveHost();
let folder = '';

beforeAll(() => {
  if (process.geteuid?.() !== 0) return;
  folder = fs.mkdtempSync('/run/slurm-cgroups-test-'); // in /tmp any user could have put it there first
  fs.chmodSync(folder, 0o755);
});
afterAll(() => {
  if (folder !== '') fs.rmSync(folder, { recursive: true });
});

/** No slurmd is looked for: this machine may have one. */
const node = (configFile = '/etc/slurm/slurm.conf'): SlurmNode => ({
  host: { ...host, names: (path) => (path === '/proc' ? [] : host.names(path)) },
  hierarchies: { mode: 'unified', all: [], get: () => undefined },
  tops: [],
  nodeName: 'n1',
  configuration: { file: configFile, files: [], slurmd: undefined, nodes: [], places: new Map(), notes: [] },
  spools: new Map(),
  evidence: undefined,
  unreadable: [],
  notes: [],
});

const asking = (change: Partial<CallerIdQuestion> = {}, timeoutMs = 5000): CallerIdQuestion => ({
  node: node(),
  connection: connectionOf('192.0.2.1 51234 192.0.2.2 22'),
  uid: 1001,
  ownJobs: [],
  deadline: deadlineIn(change.node?.host ?? host, timeoutMs),
  ...change,
});

/** A scontrol that does what the script says. */
function scontrol(script: string, { mode = 0o755, uid = 0 } = {}): string {
  const own = fs.mkdtempSync(`${folder}/`);
  fs.chmodSync(own, 0o755);
  fs.writeFileSync(`${own}/scontrol`, `#!/bin/sh\n${script}\n`);
  fs.chmodSync(`${own}/scontrol`, mode);
  fs.chownSync(`${own}/scontrol`, uid, uid);
  return own;
}

const ask = async (script: string, change: Partial<CallerIdQuestion> = {}, timeoutMs = 5000) => {
  const begun = host.now();
  const { answer, silent } = await askSlurmd(asking(change, timeoutMs), [scontrol(script)]);
  return { said: said(answer), silent, tookMs: host.now() - begun };
};

describe('askSlurmd()', () => {
  rootTest('gives scontrol the connection, its family, and nothing of our environment', async () => {
    const told = `${folder}/told`;
    process.env['SLURM_CGROUPS_TEST'] = 'ours';
    const script = `/usr/bin/env > ${told}; echo "$@" >> ${told}; echo "7 login1"`;
    expect((await ask(script, { node: node('/etc/other/slurm.conf') })).said).toBe('job 7 of somebody');
    const lines = fs.readFileSync(told, 'utf8').trim().split('\n');
    expect(lines.filter((line) => !/^(PWD|SHLVL|_)=/.test(line)).sort()).toEqual([
      'LC_ALL=C',
      'SLURM_CONF=/etc/other/slurm.conf',
      'callerid 192.0.2.1 51234 192.0.2.2 22 4',
    ]);
    await ask(script, { connection: connectionOf('2001:db8::1 51234 2001:db8::2 22') });
    expect(fs.readFileSync(told, 'utf8')).toContain('callerid 2001:db8::1 51234 2001:db8::2 22 6\n');
    expect(fs.readFileSync(told, 'utf8')).toContain('SLURM_CONF=/etc/slurm/slurm.conf\n');
    await ask(script, { connection: connectionOf('::ffff:192.0.2.1 51234 ::ffff:192.0.2.2 22') });
    expect(fs.readFileSync(told, 'utf8')).toContain('callerid 192.0.2.1 51234 192.0.2.2 22 4\n');
    delete process.env['SLURM_CGROUPS_TEST'];
  });

  rootTest('waits for a scontrol that hangs, ignores SIGTERM or answers too late no longer than it may', async () => {
    for (const script of [
      'exec sleep 30',
      "trap '' TERM; sleep 30",
      'exec sleep 1; echo "7 n"',
      'exec 1>&-; exec sleep 30',
    ]) {
      const { said: why, silent, tookMs } = await ask(script, {}, 700);
      expect([why, silent]).toEqual([
        expect.stringMatching(/^the slurmd at 192\.0\.2\.1 did not answer within \d+ ms$/),
        true,
      ]);
      expect(tookMs).toBeLessThan(20_000);
    }
  });

  rootTest('ends the scontrol that it no longer waits for', async () => {
    const file = `${folder}/pid`;
    await ask(`echo $$ > ${file}; exec sleep 31`, {}, 400);
    const pid = Number(fs.readFileSync(file, 'utf8'));
    for (const end = Date.now() + 5000; fs.existsSync(`/proc/${pid}`) && Date.now() < end; )
      await new Promise((fulfil) => setTimeout(fulfil, 10));
    expect(fs.existsSync(`/proc/${pid}`)).toBe(false);
  });

  rootTest('believes no answer but an id and a name', async () => {
    for (const [script, why] of [
      ['printf ""', 'scontrol answered "", which is no job and node'],
      ['echo "0 n1"', 'is no job and node'],
      ['echo "4294967294 n1"', 'is no job and node'],
      ['echo "7"', 'is no job and node'],
      ['echo "7 n1 n2"', 'is no job and node'],
      ['printf "7 n1"', 'is no job and node'],
      ['echo "-7 n1"', 'is no job and node'],
      ['printf "7 \\033[31m\\n"', 'u001b[31m'],
      ['printf "8 n1\\n7 n1\\n"', 'is no job and node'],
      ['head -c 100000 /dev/zero', 'said too much'],
      ['kill -9 $$', 'was ended by a signal'],
      ['exit 3', 'could not be asked: exit code 3'],
    ] as const) {
      const { said: answer, silent } = await ask(script);
      expect([answer, silent]).toEqual([expect.stringContaining(why), false]);
    }
  });

  rootTest('runs no scontrol that is missing, not root’s, or that others can change', async () => {
    const inFolder = async (own: string) => said((await askSlurmd(asking(), [own])).answer);
    expect(await inFolder(`${folder}/none`)).toContain('there is no scontrol beside slurmd nor in');
    expect(await inFolder(scontrol('echo "7 n1"', { uid: 1 }))).toContain('belongs to uid 1');
    expect(await inFolder(scontrol('echo "7 n1"', { mode: 0o777 }))).toContain('others than its owner can write there');
    const open = scontrol('echo "7 n1"');
    fs.chmodSync(open, 0o777);
    expect(await inFolder(open)).toContain('others than its owner can write there');
    const link = `${folder}/link`;
    fs.mkdirSync(link);
    fs.symlinkSync(`${open}/scontrol`, `${link}/scontrol`);
    expect(await inFolder(link)).toContain('others than its owner can write there');
    const variable = `${folder}/a=b`;
    fs.renameSync(scontrol('echo "7 n1"'), variable);
    expect(await inFolder(variable)).toContain('env(1) takes it for a variable');
    const folderAs = `${folder}/folder`;
    fs.mkdirSync(`${folderAs}/scontrol`, { recursive: true });
    expect(await inFolder(folderAs)).toContain('it is a folder, not a file');
    expect(await inFolder(scontrol('echo "7 n1"', { mode: 0o644 }))).toMatch(
      /could not be asked: ".*Permission denied"/,
    );
  });

  rootTest('runs no scontrol that would have to ask DNS and slurmctld for a configuration', async () => {
    const unconfigured = { ...node(), configuration: undefined };
    const told = `${folder}/ran`;
    expect(await ask(`touch ${told}; echo "7 n1"`, { node: unconfigured })).toMatchObject({
      said: 'no slurm.conf is known here, and without one scontrol would ask DNS and slurmctld for it',
      silent: false,
    });
    expect(fs.existsSync(told)).toBe(false);
  });

  rootTest('gives it the slurm.conf of its own installation where no other is known, if that is root’s', async () => {
    const prefix = fs.mkdtempSync(`${folder}/`);
    fs.chmodSync(prefix, 0o755);
    fs.renameSync(scontrol('test -n "$SLURM_CONF" && echo "7 n1"'), `${prefix}/bin`);
    const unconfigured = asking({ node: { ...node(), configuration: undefined } });
    const answer = async () => said((await askSlurmd(unconfigured, [`${prefix}/bin`])).answer);
    expect(await answer()).toContain('no slurm.conf is known here');
    fs.mkdirSync(`${prefix}/etc`);
    fs.writeFileSync(`${prefix}/etc/slurm.conf`, '', { mode: 0o644 });
    expect(await answer()).toBe('job 7 of somebody');
    fs.chownSync(`${prefix}/etc/slurm.conf`, 1, 1);
    expect(await answer()).toContain('belongs to uid 1');
  });

  rootTest('calls no source silent that was given less time than a healthy slurmd may need', async () => {
    const { said: why, silent } = await ask('exec sleep 30', {}, 290);
    expect([why, silent]).toEqual([expect.stringContaining('did not answer within'), false]);
  });

  rootTest('calls no source silent that the search for scontrol left no time, or little', async () => {
    const own = scontrol('exec sleep 30');
    for (const [searchMs, why] of [
      [1000, 'finding scontrol took all of the '],
      [400, 'did not answer within'],
    ] as const) {
      let aheadMs = 0;
      /** To look at scontrol takes so long. */
      const slow = {
        ...node().host,
        now: () => host.now() + aheadMs,
        stat: (path: string) => {
          if (path === `${own}/scontrol`) aheadMs = searchMs;
          return host.stat(path);
        },
      };
      const question = asking({ node: { ...node(), host: slow } }, 1000);
      const { answer, silent } = await askSlurmd(question, [own]);
      expect([said(answer), silent]).toEqual([expect.stringContaining(why), false]);
    }
  });

  it('asks no source about an address of one link, nor without time', async () => {
    const link = asking({ connection: connectionOf('fe80::1%eth0 51234 fe80::2%eth0 22') });
    expect(said((await askSlurmd(link, ['/nowhere'])).answer)).toContain('fe80::1 is an address of one link only');
    expect(said((await askSlurmd(asking({}, 0), ['/nowhere'])).answer)).toBe('no time is left to ask');
  });

  it('ends with its signal', async () => {
    const signal = AbortSignal.abort(new Error('stopped'));
    await expect(askSlurmd(asking({ deadline: deadlineIn(host, 5000, signal) }), ['/nowhere'])).rejects.toThrow(
      'stopped',
    );
  });

  rootTest('never throws for what the machine refuses', async () => {
    const own = scontrol('echo "7 n1"');
    const counted = failingHost(node().host);
    await askSlurmd(asking({ node: { ...node(), host: counted } }), [own]);
    for (let nth = 1; nth <= counted.calls.length; nth++) {
      const failing = failingHost(node().host, { nth, errno: 'EIO' });
      await askSlurmd(asking({ node: { ...node(), host: failing } }), [own]);
    }
  });
});

describe('findScontrol()', () => {
  rootTest('takes that of the installation whose slurmd runs', async () => {
    const prefix = fs.mkdtempSync(`${folder}/`);
    fs.chmodSync(prefix, 0o755);
    for (const name of ['bin', 'sbin']) fs.mkdirSync(`${prefix}/${name}`);
    fs.writeFileSync(`${prefix}/bin/scontrol`, '');
    const files = configFiles(host, deadlineIn(host, 5000));
    const readlink = (path: string) =>
      path === '/proc/77/exe' ? `${prefix}/sbin/slurmd (deleted)` : host.readlink(path);
    const configuration = {
      ...{ files: [], nodes: [], places: new Map(), notes: [] },
      slurmd: { pid: 77, configless: false },
    };
    const at = { host: { ...host, readlink }, configuration };
    expect(await findScontrol(at, files, [])).toBe(`${prefix}/bin/scontrol`);
    fs.renameSync(`${prefix}/bin/scontrol`, `${prefix}/sbin/scontrol`);
    expect(await findScontrol(at, files, [])).toBe(`${prefix}/sbin/scontrol`);
    fs.unlinkSync(`${prefix}/sbin/scontrol`);
    expect(await findScontrol(at, files, [])).toBeUndefined();
  });
});

describe('readScontrol()', () => {
  const failed = (stderr: string) => readScontrol({ exitCode: 1, stdout: '', stderr, timedOut: false }, '192.0.2.1');
  const unable = 'slurm_network_callerid: unable to retrieve callerid data from remote slurmd\ncallerid failure: ';

  it.each([
    [`${unable}Connection refused\n`, 'could not be asked: "Connection refused"', false],
    [`${unable}Network is unreachable\n`, 'could not be asked: "Network is unreachable"', false],
    [`${unable}Connection timed out\n`, 'could not be asked: "Connection timed out"', true],
    [
      'slurm_network_callerid: remote job id indeterminate\ncallerid failure: No error\n',
      'knows no job of this',
      false,
    ],
    ['scontrol: fatal: Could not establish a configuration source\n', 'establish a configuration source', false],
    ['', 'exit code 1', false],
  ])('%j: %s', (stderr, why, silent) => {
    const answer = failed(stderr);
    expect([said(answer.answer), answer.silent]).toEqual([expect.stringContaining(why), silent]);
  });
});
