// The X11 display that Slurm forwards for a job, given to sessions of a real sshd.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { keepLoginLog } from '../support/login-log.js';
import { type Cluster, until, users } from './cluster.js';
import { PamSite } from './pam-site.js';
import type { SshServer, SshServerOptions } from './ssh-server.js';

const [alice] = users;
let site: PamSite;
let cluster: Cluster;

beforeAll(async () => {
  site = await PamSite.start({ PrologFlags: 'contain,x11' });
  cluster = site.cluster;
});
afterEach(() => site.clear());
afterAll(() => cluster?.stop());
afterAll(keepLoginLog());

const serve = (options: readonly string[] = [], more: Partial<SshServerOptions> = {}) =>
  site.serve({ pam: site.stack(['action_adopt_failure=deny', 'budget=60s', ...options]), ...more });

describe('the X11 display of a job', () => {
  const look = ['echo "display=$DISPLAY xauthority=$XAUTHORITY"'];
  const shown = (stdout: string) => /display=(\S*) xauthority=(\S*)/.exec(stdout)?.slice(1);

  it('is the session’s, and gives way to that of ssh -X', async () => {
    const own = path.join(site.folder, 'x11'); // xauth makes a lock beside its file
    fs.mkdirSync(own);
    fs.chownSync(own, 1, 1);
    const cookies = path.join(own, 'cookies');
    const cookie = randomBytes(16).toString('hex');
    await cluster.run('xauth', ['-q', '-f', cookies, 'add', `${os.hostname()}/unix:99`, '.', cookie], alice);
    const variables = ['DISPLAY=localhost:99.0', `XAUTHORITY=${cookies}`];
    // Through srun Slurm forwards, until it is cancelled.
    const job = cluster.run('env', [...variables, 'srun', '--x11', '--chdir=/', 'sleep', '600'], alice);
    let ended = '';
    job.catch((error) => {
      ended = String(error);
    });
    const running = async () => (await cluster.run('squeue', ['-h', '-t', 'R', '-o', '%i'])).trim();
    await until('the job runs', async () => ended !== '' || (await running()) !== '');
    expect(ended).toBe('');
    const jobId = Number(await running());
    const socket = `${cluster.spool}/${cluster.nodeName}_${jobId}.4294967292`;
    await until('its extern step is there', () => fs.existsSync(socket));

    // The user's home is not the user's here, where xauth would wait for its lock: neither side keeps a cookie.
    const deaf = path.join(site.folder, 'xauth');
    fs.writeFileSync(deaf, '#!/bin/sh\nexec cat >/dev/null\n', { mode: 0o755 });
    const config = ['X11Forwarding yes', 'X11UseLocalhost yes', `XAuthLocation ${deaf}`];
    const server = await serve([], { config });
    const [display, xauthority] = shown((await server.ssh(alice, look)).stdout) ?? [];
    expect([display, xauthority], server.log).toEqual([
      expect.stringMatching(/^localhost:\d+\.0$/),
      expect.stringMatching(/^\//),
    ]);
    expect(shown((await (await site.serveOther()).ssh(alice, look)).stdout)).toEqual([display, xauthority]);
    // The client need not reach a display for sshd to make one.
    const [ofSsh, cookiesOfSsh] = shown((await forwarded(server)).stdout) ?? [];
    expect([ofSsh, cookiesOfSsh], server.log).toEqual([expect.stringMatching(/^localhost:\d+\.0$/), '']);
    expect(ofSsh).not.toBe(display);
    const [without] = shown((await (await serve(['disable_x11=1'])).ssh(alice, look)).stdout) ?? [];
    expect(without).toBe('');
    fs.rmSync(`/run/slurm-cgroups/adoptions/${jobId}`, { recursive: true, force: true });

    function forwarded(to: SshServer) {
      const client = ['DISPLAY=localhost:99.0', `XAUTHORITY=${cookies}`];
      return to.run('env', [
        ...client,
        'ssh',
        ...to.words(alice, ['-Y', '-o', `XAuthLocation=${deaf}`]),
        '127.0.0.1',
        ...look,
      ]);
    }
  });
});
