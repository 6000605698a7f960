// slurmdbd with a MariaDB of its own, for a cluster of cluster.ts: what Slurm counted of a job can be asked by sacct.
// Everything lies in the cluster's folder, and goes with it.

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { type Companion, freePorts, until } from './cluster.js';

const packages = 'slurmdbd mariadb-server-core mariadb-client-core';

function locate(name: string): string {
  const file = ['/usr/sbin', '/usr/bin'].map((at) => `${at}/${name}`).find(fs.existsSync);
  if (file === undefined) throw new Error(`No ${name} here: apt-get install --no-install-recommends ${packages}`);
  return file;
}

function listens(port: number): Promise<boolean> {
  return new Promise((fulfil) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      socket.destroy();
      fulfil(true);
    });
    socket.once('error', () => fulfil(false));
  });
}

/** A companion for startCluster(): gives the keys by which slurmctld finds it. */
export async function accounting({ folder, munge, daemon }: Companion): Promise<Readonly<Record<string, string>>> {
  const [data, socket] = [path.join(folder, 'database'), path.join(folder, 'database.socket')];
  const mine = ['--no-defaults', `--datadir=${data}`];
  fs.mkdirSync(data, { mode: 0o700 });
  const install = [...mine, '--user=root', '--auth-root-authentication-method=socket', '--skip-test-db'];
  await promisify(execFile)(locate('mariadb-install-db'), install, { cwd: '/', timeout: 120_000 });
  const [databasePort, port] = await freePorts();
  const server = ['--user=root', `--socket=${socket}`, '--bind-address=127.0.0.1', `--port=${databasePort}`];
  daemon('mariadbd', locate('mariadbd'), [
    ...mine,
    ...server,
    `--pid-file=${data}/pid`,
    '--innodb-lock-wait-timeout=900',
  ]);
  const password = randomBytes(16).toString('hex');
  const statements = `CREATE USER slurm@127.0.0.1 IDENTIFIED BY '${password}'; GRANT ALL ON *.* TO slurm@127.0.0.1;`;
  const client = ['--no-defaults', `--socket=${socket}`, '-e', statements];
  await until('mariadbd answers', () =>
    promisify(execFile)(locate('mariadb'), client, { cwd: '/', timeout: 60_000 }).then(
      () => true,
      () => false,
    ),
  );
  const conf = path.join(folder, 'etc', 'slurmdbd.conf');
  const lines = [
    'DbdHost=localhost',
    'DbdAddr=127.0.0.1',
    `DbdPort=${port}`,
    'SlurmUser=root',
    'AuthType=auth/munge',
    `AuthInfo=socket=${munge}`,
    `PidFile=${folder}/state/slurmdbd.pid`,
    'StorageType=accounting_storage/mysql',
    'StorageHost=127.0.0.1',
    `StoragePort=${databasePort}`,
    'StorageUser=slurm',
    `StoragePass=${password}`,
    'StorageLoc=slurm_acct_db',
  ];
  fs.writeFileSync(conf, `${lines.join('\n')}\n`, { mode: 0o600 });
  daemon('slurmdbd', locate('slurmdbd'), ['-D']);
  // slurmctld gives up at once where it has none at its first start.
  await until('slurmdbd listens', () => listens(port));
  return {
    AccountingStorageType: 'accounting_storage/slurmdbd',
    AccountingStorageHost: '127.0.0.1',
    AccountingStoragePort: String(port),
    AccountingStoragePass: munge,
    JobAcctGatherFrequency: 'task=1',
  };
}
