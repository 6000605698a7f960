import type net from 'node:net';
import { describe, expect, it } from 'vitest';
import { ending } from '../../src/cli/exit.js';
import { openLog } from '../../src/cli/log.js';
import { openDestination } from '../../src/cli/log-destination.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recording } from '../recordings/recordings.js';
import { runProgramFile } from '../support/program-run.js';
import { until } from '../support/stuck-processes.js';
import { unixSandbox } from '../support/unix-server.js';

const live = liveHost();

describe('openDestination()', () => {
  it('writes to the stream socket of the journal, each line with its severity', async () => {
    const sandbox = unixSandbox();
    try {
      const connections: net.Socket[] = [];
      let text = '';
      await sandbox.serve('stdout', (socket) => {
        connections.push(socket);
        socket.on('data', (bytes) => {
          text += bytes;
        });
      });
      const host: Host = {
        ...live,
        open: (path) => live.open(path === '/run/systemd/journal' ? sandbox.folder : path),
      };
      const code = await ending('adopt', [], async () => {
        const log = openLog('adopt', 'debug', await openDestination(host, 'journal'));
        log('info', 'The session is in job 5', { pid: 7 });
        log('error', 'no');
        log('debug', 'x\u202e');
        return 0;
      });
      expect(code).toBe(0);
      await until('the connection is closed', () => sandbox.open() === 0);
      const [identifier, unit, priority, hasLevels, , , , ...lines] = text.trimEnd().split('\n');
      expect([identifier, unit, priority, hasLevels]).toEqual(['slurm-cgroups', '', '86', '1']);
      expect(lines.map((line) => line.slice(0, 3))).toEqual(['<6>', '<3>', '<7>']);
      expect(JSON.parse(lines[0]?.slice(3) ?? '')).toMatchObject({ msg: 'The session is in job 5', pid: 7 });
      expect(lines[2]).toContain('x\\u202e');
    } finally {
      await sandbox.close();
    }
  });

  it('calls logger(1) for syslog, one line a call, in order, before the command ends', async () => {
    const calls: (readonly string[])[] = [];
    const run: Host['run'] = async (file, args) => {
      await live.sleep(5);
      calls.push([file, ...args]);
      return { exitCode: 0, stdout: '', stderr: '', timedOut: false };
    };
    await ending('adopt', [], async () => {
      const log = openLog('adopt', 'info', await openDestination({ ...live, run }, 'syslog'));
      log('info', 'one');
      log('fatal', '--two');
      return 0;
    });
    expect(calls.map((call) => call.slice(0, 6))).toEqual([
      ['/usr/bin/logger', '-t', 'slurm-cgroups', '-p', 'authpriv.info', '--'],
      ['/usr/bin/logger', '-t', 'slurm-cgroups', '-p', 'authpriv.crit', '--'],
    ]);
    expect(calls.map((call) => JSON.parse(call[6] ?? '').msg)).toEqual(['one', '--two']);
  });

  it('never keeps a command from its end: a logger that hangs is left behind', async () => {
    const run: Host['run'] = () => new Promise(() => {});
    const code = await ending('adopt', [], async () => {
      openLog('adopt', 'info', await openDestination({ ...live, run }, 'syslog'))('info', 'one');
      return 3;
    });
    expect(code).toBe(3);
  });

  it('takes no other', async () => {
    await expect(openDestination(live, 'file')).rejects.toMatchObject({ code: 'ERR_USAGE' });
  });
});

describe('--log-to', () => {
  it('refuses what it does not know, and goes on where nothing takes the log', () => {
    const { stderr, exitCode } = runProgramFile('verify', 'self', '--log-to', 'nowhere');
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining('there are stderr, journal, syslog')]);
    for (const where of ['journal', 'syslog'])
      expect(runProgramFile('list', '--from', recording('slurm-22.05-v1'), '--log-to', where).exitCode).toBe(0);
  });
});
