// What a session takes over from its job beside the cgroups: the X11 display that slurmstepd tells, and the namespaces that
// the module fetches from slurmstepd itself (descriptors, which Node cannot receive).

import { namespacePlugin } from '../jobs/config/values.js';
import type { Job } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import { reachExternStepd } from '../jobs/stepd/extern.js';
import type { X11Display } from '../jobs/stepd/protocol.js';
import type { Deadline } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import type { AdoptionOptions } from '../policy/options.js';

export interface JobSetting {
  readonly x11?: X11Display;
  /** The slurmstepd that is asked for the job's namespaces: what it says it speaks, and its socket. */
  readonly stepd?: { readonly version: number; readonly path: string };
  /** unknown: the job has namespaces, and nobody can be asked for them. */
  readonly namespaces: 'none' | 'asked' | 'unknown';
  /** Why something is not known, for an administrator. */
  readonly notes: readonly string[];
}

export const noSetting: JobSetting = { namespaces: 'none', notes: [] };

/**
 * How long slurmstepd may take for it: a part of what the login has left, and this at least. It has just answered, so this
 * is for a machine that is busy, and for one that is stopped in between.
 */
const ask = { leastMs: 500, part: 0.25 };

/** Whether jobs of this node can have it; where the configuration is not known, they can. */
function wantedOf({ configuration }: Pick<SlurmNode, 'configuration'>, options: AdoptionOptions) {
  const hasPlugin = configuration !== undefined && namespacePlugin(configuration) !== undefined;
  return {
    x11: !options.disableX11 && (configuration === undefined || configuration.prologFlags?.includes('x11') === true),
    namespaces: options.joinContainer !== false && (configuration === undefined || hasPlugin),
    hasPlugin,
  };
}

/** Asks the slurmstepd of the job that the session is in. */
export async function settingOf(
  node: SlurmNode,
  job: Job,
  { options, deadline }: { readonly options: AdoptionOptions; readonly deadline: Deadline },
): Promise<JobSetting> {
  const wanted = wantedOf(node, options);
  if (!wanted.x11 && !wanted.namespaces) return noSetting;
  const namespaces = wanted.namespaces && wanted.hasPlugin ? 'unknown' : 'none';
  const left = deadline.part(Math.max(ask.leastMs, deadline.leftMs() * ask.part));
  const reached = await reachExternStepd(node, job, left);
  if (reached.outcome !== 'ready') {
    const why = reached.outcome === 'ending' ? reached.error.message : reached.why;
    // Without a configuration most nodes have neither.
    const isMissed = node.configuration !== undefined;
    return { namespaces, notes: isMissed ? [`The job's X11 display and namespaces are not known: ${why}`] : [] };
  }
  const { stepd } = reached;
  try {
    const { socket, serverVersion } = stepd;
    const asked = { version: serverVersion, path: `${socket.folder}/${socket.name}` };
    const x11 = wanted.x11 ? await stepd.ask('x11Display', left) : undefined;
    return {
      ...(x11?.outcome === 'answered' ? defined({ x11: x11.value }) : {}),
      ...(wanted.namespaces ? { stepd: asked, namespaces: 'asked' } : { namespaces: 'none' }),
      notes: x11 === undefined || x11.outcome === 'answered' ? [] : [`The X11 display: ${x11.error.message}`],
    };
  } finally {
    stepd.close();
  }
}
