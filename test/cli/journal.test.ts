import { expect, it } from 'vitest';
import { openJournal } from '../../src/cli/journal.js';
import { hasCode } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { until } from '../support/stuck-processes.js';
import { unixSandbox } from '../support/unix-server.js';

const live = liveHost();
const inFolder = (folder: string): Host => ({
  ...live,
  open: (path) => live.open(path === '/run/systemd/journal' ? folder : path),
});

it('openJournal() says who it is, and each line its severity', async () => {
  const sandbox = unixSandbox();
  try {
    let text = '';
    await sandbox.serve('stdout', (socket) => {
      socket.on('data', (bytes) => {
        text += bytes;
      });
    });
    const journal = await openJournal(inFolder(sandbox.folder), { timeoutMs: 5000 });
    journal.write(6, 'one\n');
    journal.write(3, 'two\n');
    journal.close();
    await until('it is closed', () => sandbox.open() === 0 && text.endsWith('two\n'));
    expect(text).toBe('slurm-cgroups\n\n86\n1\n0\n0\n0\n<6>one\n<3>two\n');
  } finally {
    await sandbox.close();
  }
});

it('openJournal() throws where there is none', async () => {
  const sandbox = unixSandbox();
  try {
    for (const folder of ['/nowhere', sandbox.folder])
      await expect(openJournal(inFolder(folder), { timeoutMs: 100 })).rejects.toSatisfy((error) =>
        hasCode(error, 'ERR_NOT_FOUND'),
      );
  } finally {
    await sandbox.close();
  }
});
