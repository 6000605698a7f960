// Whom Slurm's daemons run as: the uids behind SlurmUser and SlurmdUser of a configuration that is believed.

import { deadlineIn } from '../../machine/deadline.js';
import { SlurmCgroupsError } from '../../machine/errors.js';
import { configFiles } from '../../machine/guarded-files.js';
import { getentMs } from '../../machine/users.js';
import { uidOfUser } from '../config/trust.js';
import type { SlurmNode } from '../node.js';
import { rootOwns, type TrustedOwners } from './sockets.js';

export interface SlurmUsers {
  readonly uids: ReadonlySet<number>;
  /** Those whose uid is not known; `why`: what went wrong, if anything did. */
  readonly unknown: readonly { readonly user: string; readonly why?: string }[];
}

/** The uids of the accounts besides root that the configuration names under these keys. */
export async function uidsOfSlurm(
  { host, configuration }: Pick<SlurmNode, 'host' | 'configuration'>,
  keys: readonly ('slurmUser' | 'slurmdUser')[],
): Promise<SlurmUsers> {
  const [uids, unknown] = [new Set<number>(), [] as { readonly user: string; readonly why?: string }[]];
  const files = configFiles(host, deadlineIn(host, getentMs));
  for (const user of new Set(keys.map((key) => configuration?.[key]))) {
    if (user === undefined || user === 'root') continue;
    try {
      const uid = await uidOfUser(host, files, user);
      if (uid !== undefined) uids.add(uid);
      else unknown.push({ user });
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
      unknown.push({ user, why: error.message });
    }
  }
  return { uids, unknown };
}

/** Whose folders are believed: root's, and those of SlurmUser where the configuration names that user. */
export async function trustedOwners(node: Pick<SlurmNode, 'host' | 'configuration'>): Promise<TrustedOwners> {
  const { uids } = await uidsOfSlurm(node, ['slurmUser']);
  return new Set([...rootOwns, ...[...uids].map(BigInt)]);
}
