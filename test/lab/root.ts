// The file systems that guests run on: a minimal Debian with what the tests use, and four with a Slurm, sshd and
// systemd; made by mmdebstrap, never written to afterwards (a guest sees them read-only below a tmpfs).

import fs from 'node:fs';
import { kept } from './cache.js';
import { runTool } from './tool.js';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Beyond the essential ones: what Node.js links to, and what the tests run. What they compile is carried in. */
const packages = ['libstdc++6', 'mount', 'procps', 'python3-minimal'];

/** These are not read in a guest, and over 9p each file costs. */
const leftOut = ['man', 'locale', 'doc', 'info'].map((folder) => `--dpkgopt=path-exclude=/usr/share/${folder}/*`);

/** Each of Debian's has a Slurm of its own: 20.11, 22.05, 24.11, 26.05. */
export type Suite = 'bullseye' | 'bookworm' | 'trixie' | 'forky';

export interface RootName {
  readonly suite: Suite;
  /** With Slurm, sshd, systemd, and the users alice (1001), bob (1002) and carol (1003), who have ssh keys. */
  readonly slurm: boolean;
}

const slurmPackages = [
  ...['slurmd', 'slurmctld', 'slurm-client', 'slurm-wlm-basic-plugins', 'munge', 'libpam-slurm-adopt', 'pamtester'],
  ...['openssh-server', 'openssh-client', 'libpam-modules', 'libpam-systemd', 'libpam-runtime'],
  ...['systemd', 'systemd-sysv', 'dbus', 'iproute2', 'procps', 'libstdc++6', 'python3-minimal'],
];

/** What the cells of one release need beside: MPI over ssh; slurmdbd, and the database that it writes to. */
const moreOf: Partial<Record<Suite, readonly string[]>> = {
  trixie: ['openmpi-bin', 'mpich'],
  forky: ['slurmdbd', 'mariadb-server-core', 'mariadb-client-core'],
};

/** A shell command with $1, the root, for each user: an account with a key that opens its own. */
function userHook(name: string, uid: number): string {
  const home = `/home/${name}`;
  return [
    `chroot "$1" useradd -m -s /bin/bash -u ${uid} ${name}`,
    `chroot "$1" install -d -m 700 ${home}/.ssh`,
    `chroot "$1" ssh-keygen -q -t ed25519 -N '' -f ${home}/.ssh/id_ed25519`,
    `cp "$1${home}/.ssh/id_ed25519.pub" "$1${home}/.ssh/authorized_keys"`,
    `printf 'StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n' >"$1${home}/.ssh/config"`,
    `chroot "$1" chown -R ${name}: ${home}/.ssh`,
  ].join(' && ');
}

const hooks = [userHook('alice', 1001), userHook('bob', 1002), userHook('carol', 1003)];

/** An empty database is kept small: what a guest writes to it copies into its memory, whole files at a time. */
const databaseSettings = [
  ...['[mariadbd]', 'user=slurm', 'datadir=/var/lib/lab-database', 'socket=/run/mysqld/mysqld.sock', 'skip-networking'],
  ...['innodb-data-file-path=ibdata1:3M:autoextend', 'innodb-autoextend-increment=1', 'innodb-undo-tablespaces=0'],
  ...['innodb-log-file-size=4M', 'innodb-buffer-pool-size=16M', 'innodb-flush-log-at-trx-commit=0'],
  'innodb-lock-wait-timeout=900', // slurmdbd asks for it
];

/**
 * To make a database takes an emulated machine minutes. Its user `slurm` is known by its uid, without a password.
 * What Slurm calls it is there, too: libmariadb 11.8.9 takes no answer any more on a connection that failed once, for
 * want of it (measured: "Number of columns in result (=1) set execeeds maxmimum allowed number of columns (=0)").
 */
const databaseHook = [
  `printf '%s\\n' ${databaseSettings.map((line) => `'${line}'`).join(' ')} >"$1/etc/lab-database.cnf"`,
  'chroot "$1" mariadb-install-db --defaults-file=/etc/lab-database.cnf --user=slurm --skip-test-db --force' +
    ' --auth-root-authentication-method=socket --auth-root-socket-user=slurm',
  'echo \'CREATE DATABASE slurm_acct_db;\' | chroot "$1" mariadbd --defaults-file=/etc/lab-database.cnf --bootstrap',
].join(' && ');

const moreHooksOf: Partial<Record<Suite, readonly string[]>> = { forky: [databaseHook] };

/** The source of packages: the mirror that apt uses here. */
export function sourceOf(suite: Suite): string {
  return `deb [signed-by=${keyring}] ${mirror()} ${suite} main`;
}

function mirror(): string {
  for (const file of ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list']) {
    const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
    const found = /^URIs:\s*(\S+)/m.exec(text) ?? /^deb (?:\[[^\]]*\] )?(http\S+)/m.exec(text);
    if (found?.[1] !== undefined) return found[1];
  }
  throw new Error("Cannot build a guest: apt's sources name no Debian mirror (/etc/apt/sources.list.d/debian.sources)");
}

export async function keptRoot({ suite, slurm }: RootName, say: (text: string) => void): Promise<string> {
  const name = slurm ? `root-${suite}-slurm` : `root-${suite}`;
  const include = slurm ? [...slurmPackages, ...(moreOf[suite] ?? [])] : packages;
  const allHooks = [...hooks, ...(moreHooksOf[suite] ?? [])];
  const more = slurm
    ? ['--variant=minbase', ...allHooks.map((hook) => `--customize-hook=${hook}`)]
    : ['--variant=essential'];
  return kept({
    name,
    ingredients: ['1', ...include, ...leftOut, ...(slurm ? more : [])],
    async make(folder) {
      say(`Making the root ${name} …`);
      await runTool('/usr/bin/mmdebstrap', [
        '--mode=root',
        '--architectures=amd64',
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        ...leftOut,
        ...more,
        `--include=${include.join(',')}`,
        suite,
        folder,
        sourceOf(suite),
      ]);
    },
  });
}
