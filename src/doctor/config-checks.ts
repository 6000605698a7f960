// Checks of slurm.conf and cgroup.conf: what they must say so that sessions can be adopted and are limited. Pure.
// Sources: slurm.conf(5), cgroup.conf(5), pam_slurm_adopt(8) of Slurm 20.11 to 26.05.

import { at } from '../jobs/config/place.js';
import type { SlurmConfiguration } from '../jobs/config/read.js';
import { externStepFlags } from '../jobs/config/values.js';
import { type Finding, fail, ok, warn } from './check.js';

/** The checks of a configuration, by name. */
export const configChecks: readonly (readonly [name: string, find: (read: SlurmConfiguration) => Finding])[] = [
  ['PrologFlags', prologFlags],
  ['ProctrackType', proctrackType],
  ['TaskPlugin', taskPlugin],
  ['constraints', constraints],
  ['accounting', accounting],
];

const restart = 'then restart slurmctld and slurmd';

/** Without Contain, or what means it too, there are no extern steps. */
function prologFlags({ prologFlags: flags, places }: SlurmConfiguration): Finding {
  const where = at(places.get('prologFlags'));
  if (externStepFlags(flags).length === 0) {
    const said = flags === undefined ? 'not set' : `${flags.join(',')} does not include Contain${where}`;
    return fail(
      `${said}: jobs have no extern step, so no session can be adopted`,
      `set PrologFlags=Contain in slurm.conf, ${restart}`,
    );
  }
  const inJob = flags?.includes('runinjob') === true ? ': Prolog and Epilog run inside the extern step' : '';
  return ok(`${flags?.join(',')}${where}${inJob}`);
}

/** Default: proctrack/cgroup. pam_slurm_adopt's page allows cray_aries as well (up to 23.11); with others a job has no cgroup. */
function proctrackType({ proctrackType: type, places }: SlurmConfiguration): Finding {
  if (type === undefined) return ok("not set: proctrack/cgroup is Slurm's default");
  const where = at(places.get('proctrackType'));
  if (type === 'proctrack/cgroup') return ok(`${type}${where}`);
  if (type === 'proctrack/cray_aries' || type === 'proctrack/cray')
    return warn(
      `${type}${where}: slurmstepd tracks jobs, and the sessions it adopts, in Cray's job containers; only what task/cgroup limits has a cgroup, and what a job leaves behind is seen nowhere else`,
      `check with slurm-cgroups list that jobs have cgroups here; else set ProctrackType=proctrack/cgroup in slurm.conf, ${restart}`,
    );
  return fail(
    `${type}${where} does not keep jobs in cgroups: no session can be adopted, and what a job leaves behind is not seen`,
    `set ProctrackType=proctrack/cgroup in slurm.conf, ${restart}`,
  );
}

/** task/cgroup holds a job, and the sessions adopted into it, to what the job asked for. */
function taskPlugin({ taskPlugin: plugins, places }: SlurmConfiguration): Finding {
  const where = at(places.get('taskPlugin'));
  if (plugins?.includes('task/cgroup') === true) return ok(`${plugins.join(',')}${where}`);
  return warn(
    `${plugins === undefined ? 'not set' : `${plugins.join(',')}${where}`}: without task/cgroup an adopted session is tracked but not limited`,
    `set TaskPlugin=task/cgroup,task/affinity in slurm.conf, ${restart}`,
  );
}

const wanted = ['constrainCores', 'constrainRamSpace', 'constrainDevices'] as const;
const keyOf = (field: (typeof wanted)[number]) => `C${field.slice(1)}`.replace('RamSpace', 'RAMSpace');

/** Each is off unless cgroup.conf says yes. */
function constraints(read: SlurmConfiguration): Finding {
  const off = wanted.filter((field) => read[field] !== true);
  const on = wanted.filter((field) => read[field] === true);
  const said = on.map((field) => `${keyOf(field)}${at(read.places.get(field))}`).join(', ');
  if (off.length === 0) return ok(said);
  const names = off.map((field) => `${keyOf(field)}${at(read.places.get(field))}`).join(', ');
  return warn(
    `${names} ${off.length === 1 ? 'is' : 'are'} not on: these limits are not enforced on jobs and the sessions in them`,
    `set ${off.map((field) => `${keyOf(field)}=yes`).join(' ')} in ${read.cgroupFile ?? 'cgroup.conf'}, then restart slurmd`,
  );
}

/** Only a gatherer counts what an adopted process uses. */
function accounting({ jobAcctGatherType: type, places }: SlurmConfiguration): Finding {
  const where = at(places.get('jobAcctGatherType'));
  if (type === undefined) return ok("JobAcctGatherType is not set: Slurm's default applies");
  if (!type.endsWith('/none')) return ok(`${type}${where}`);
  return warn(
    `${type}${where}: what jobs and sessions use is not counted`,
    `set JobAcctGatherType=jobacct_gather/cgroup in slurm.conf, ${restart}`,
  );
}
