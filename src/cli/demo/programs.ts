// What the demo's sshd needs of this machine: programs, found without PATH, and the PAM module as npm run build:native
// builds it. What is missing is one line for people.

import path from 'node:path';
import process from 'node:process';
import { quote, SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';

const repository = path.join(import.meta.dirname, '../..');
export const moduleFile: string = path.join(repository, 'native/pam/build/pam_slurm_cgroups.so');
/** For programs that look for others; an environment of the caller's changes nothing. */
const searched = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** What runs this program, and the program itself. */
export const ownCommand: readonly string[] = [process.execPath, path.join(import.meta.dirname, 'slurm-cgroups.js')];
/** Starting a program takes seconds on a machine that is emulated. */
export const programMs = 30_000;

/** What is not installed here: one line. `undefined`: all is there. */
export async function missingForSshd(host: Host): Promise<string | undefined> {
  const packages = {
    sshd: 'openssh-server',
    ssh: 'openssh-client',
    'ssh-keygen': 'openssh-client',
    unshare: 'util-linux',
  };
  for (const [name, debian] of Object.entries(packages))
    if (locate(host, name) === undefined) return `there is no ${name} (Debian: ${debian})`;
  if (host.stat('/etc/pam.d/sshd') === undefined) return 'there is no /etc/pam.d/sshd';
  return host.stat(moduleFile) === undefined ? `the PAM module is not built: ${await whyNotBuilt(host)}` : undefined;
}

async function whyNotBuilt(host: Host): Promise<string> {
  const script = path.join(repository, 'scripts/build-native.mjs');
  const words = [`PATH=${searched.join(':')}`, process.execPath, script, '--missing'];
  const { stdout } = await host.run('/usr/bin/env', words, { timeoutMs: programMs });
  return stdout.trim() || `"npm run build:native" in ${quote(repository)} builds it`;
}

function locate(host: Host, name: string): string | undefined {
  return searched.map((folder) => `${folder}/${name}`).find((file) => host.stat(file) !== undefined);
}

/** @throws SlurmCgroupsError ERR_NOT_SUPPORTED */
export function needProgram(host: Host, name: string): string {
  const file = locate(host, name);
  if (file === undefined) throw new SlurmCgroupsError('ERR_NOT_SUPPORTED', `There is no ${name}`);
  return file;
}
