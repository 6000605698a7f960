import fs from 'node:fs';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { askCallerId } from '../../../src/jobs/caller/ask.js';
import type { CallerIdQuestion } from '../../../src/jobs/caller/question.js';
import type { SlurmNode } from '../../../src/jobs/node.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import type { Host, RunResult } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { stateFolder } from '../../../src/machine/state-folder.js';
import { connectionOf, said } from '../../support/callers.js';
import { treeHost } from '../../support/small-trees.js';
import { Listener } from '../../support/tcp-listener.js';
import { rootTest } from '../../support/test-cgroups.js';

const host = liveHost();

/** A source in a documentation network (RFC 5737), whose slurmd answers so. */
const source = '203.0.113.51';
const remembered = `${stateFolder('silent')}/${source}`;
const elsewhere = connectionOf(`${source} 51234 192.0.2.2 22`);

interface Played {
  readonly host: Host;
  readonly runs: () => number;
}

/** This machine with a scontrol that says this; `undefined`: nothing, until it is killed. */
function withScontrol(result: Partial<RunResult> | undefined): Played {
  let runs = 0;
  const run = async (file: string): Promise<RunResult> => {
    expect(file).toBe('/usr/bin/env');
    runs++;
    return { exitCode: undefined, stdout: '', stderr: '', timedOut: result === undefined, ...result };
  };
  const stat = (path: string) => host.stat(path === '/usr/bin/scontrol' ? '/usr/bin/env' : path);
  const names = (path: string) => (path === '/proc' ? [] : host.names(path)); // no slurmd is looked for
  return { host: { ...host, run, stat, names }, runs: () => runs };
}

const asking = (played: Host, change: Partial<CallerIdQuestion> = {}): CallerIdQuestion => ({
  node: {
    host: played,
    tops: [],
    unreadable: [],
    configuration: { file: '/etc/slurm/slurm.conf' },
  } as unknown as SlurmNode,
  connection: elsewhere,
  uid: 1001,
  ownJobs: [],
  deadline: deadlineIn(host, 2000),
  ...change,
});

const unable = 'slurm_network_callerid: unable to retrieve callerid data from remote slurmd\ncallerid failure: ';

describe('askCallerId()', () => {
  afterEach(() => fs.rmSync(remembered, { force: true }));

  rootTest('asks the slurmd at the source', async () => {
    const played = withScontrol({ exitCode: 0, stdout: '7 login1\n' });
    expect(said(await askCallerId(asking(played.host), { remember: true }))).toBe('job 7 of somebody');
    expect(played.runs()).toBe(1);
  });

  rootTest('does not remember a source that was not asked, for want of a configuration', async () => {
    const played = withScontrol(undefined);
    const node = { host: played.host, tops: [], unreadable: [] } as unknown as SlurmNode;
    const answer = await askCallerId(asking(played.host, { node }), { remember: true });
    expect([said(answer), played.runs()]).toEqual([expect.stringContaining('no slurm.conf is known here'), 0]);
    expect(fs.existsSync(remembered)).toBe(false);
  });

  rootTest('asks a silent source once a minute', async () => {
    for (const result of [undefined, { exitCode: 1, stderr: `${unable}Connection timed out\n` }]) {
      const played = withScontrol(result);
      const first = said(await askCallerId(asking(played.host), { remember: true }));
      expect(first).toMatch(/did not answer within|timed out/);
      const second = said(await askCallerId(asking(played.host), { remember: true }));
      expect(second).toMatch(/^203\.0\.113\.51 did not answer lately, and is asked again in \d+ s$/);
      expect(played.runs()).toBe(1);
      fs.unlinkSync(remembered);
    }
  });

  rootTest('remembers no source that refuses, and a dry run none at all, but goes by what is remembered', async () => {
    const refusing = withScontrol({ exitCode: 1, stderr: `${unable}Connection refused\n` });
    for (const _ of [1, 2]) await askCallerId(asking(refusing.host), { remember: true });
    expect(refusing.runs()).toBe(2);
    const silent = withScontrol(undefined);
    for (const _ of [1, 2]) await askCallerId(asking(silent.host), { remember: false });
    expect([silent.runs(), fs.existsSync(remembered)]).toEqual([2, false]);
    await askCallerId(asking(silent.host), { remember: true });
    expect(said(await askCallerId(asking(silent.host), { remember: false }))).toContain('did not answer lately');
  });

  rootTest('does not remember a source that had no time to answer', async () => {
    const silent = withScontrol(undefined);
    await askCallerId(asking(silent.host, { deadline: deadlineIn(host, -1) }), { remember: true });
    expect([silent.runs(), fs.existsSync(remembered)]).toEqual([0, false]);
  });

  it('runs nothing for a connection of this node', async () => {
    const listener = await Listener.at('::1');
    const client = net.connect(listener.port, '::1');
    try {
      const connection = connectionOf((await listener.accept()).text);
      const played = withScontrol({ exitCode: 0, stdout: '7 login1\n' });
      expect(said(await askCallerId(asking(played.host, { connection }), { remember: true }))).toBe('none');
      expect(played.runs()).toBe(0);
    } finally {
      client.destroy();
      listener.close();
    }
  });

  it('is unknown, and no error, where /proc cannot be read, and of a recorded node', async () => {
    const open = (path: string) => {
      throw new SystemCallError('open', path, 'EACCES');
    };
    const answer = await askCallerId(asking({ ...host, open }), { remember: true });
    expect(said(answer)).toMatch(/^Cannot open "\/proc\/\d+": permission denied$/);
    const recorded = treeHost({ hierarchies: ['memory'], directories: ['memory/slurm'] });
    expect(said(await askCallerId(asking(recorded), { remember: true }))).toBe('a recorded node cannot be asked');
  });

  it('ends with its signal', async () => {
    const played = withScontrol(undefined);
    const signal = AbortSignal.abort(new Error('stopped'));
    await expect(
      askCallerId(asking(played.host, { deadline: deadlineIn(host, 2000, signal) }), { remember: false }),
    ).rejects.toThrow('stopped');
  });
});
