// slurm-cgroups strays: processes of users who have no job on this node, with the reason.

import { findStrays, type StraysReport } from '../../cleanup/strays/find.js';
import { findOutside, type OutsideReport } from '../../cleanup/strays/outside.js';
import type { SlurmNode } from '../../jobs/node.js';
import { defined } from '../../machine/defined.js';
import { openContext, requireSlurm } from '../context.js';
import { outsideJson, outsideLines, processTrees, withUserName } from '../process-trees.js';
import { type CommandSpec, commonFlags, fromFlag, type Words, whose } from '../spec.js';
import { count, json, type Output, standardOutput, visible } from '../terminal/output.js';
import { namesOf, requireUid, type UserNames } from '../users.js';

export const straysSpec: CommandSpec = {
  name: 'strays',
  summary: 'show processes of users who have no job on this node',
  about:
    'Lists the processes of ordinary users (uids from UID_MIN of /etc/login.defs on) who have no job here, and why each ' +
    "is a stray. Processes of root and nobody, of systemd's services and in a job's cgroup are never listed. Changes " +
    'nothing. Exit code 0: no strays. 1: there are strays. 2: the owner of a job here is not known, so none is listed.',
  operands: [],
  flags: [
    { name: 'uid', takes: 'U', description: 'only processes of this user id' },
    { name: 'user', takes: 'NAME', description: 'only processes of this user' },
    {
      name: 'outside',
      description: 'every process of users that is in no job, also of users who have jobs; services among them',
    },
    fromFlag,
    // Where several nodes share a machine, a process belongs to none of them in particular: the jobs of all count.
    ...commonFlags.filter((flag) => flag.name !== 'node'),
  ],
  examples: [
    ['slurm-cgroups strays', 'who runs something here without a job?'],
    ['slurm-cgroups strays --user alice', "only alice's"],
    ['slurm-cgroups strays --outside', 'all that users run here past Slurm'],
    ['slurm-cgroups strays --json | jq .strays[].pid', 'for programs'],
  ],
};

export async function runStrays(words: Words, output: Output = standardOutput()): Promise<number> {
  const said = whose(words);
  const { node, log } = await openContext('strays', words);
  await requireSlurm(node);
  const uid = said === undefined ? undefined : 'uid' in said ? said.uid : await requireUid(node.host, said.user);
  if (words.flags.has('outside'))
    return showOutside(node, await findOutside({ node, ...defined({ uid }) }), { words, output });
  const found = await findStrays({ node, ...defined({ uid }) });
  log('info', `found ${count(found.strays.length, 'stray')}`, { complete: found.complete });
  const names = await namesOf(
    node.host,
    found.strays.map((stray) => stray.uid),
  );
  const report = { ...found, notes: [...node.notes, ...found.notes] };
  if (words.flags.has('json'))
    output.print(json({ ...report, strays: report.strays.map((stray) => withUserName(stray, names)) }));
  else output.print(...renderStrays(node, report, { names, output }));
  if (found.strays.length > 0) return 1;
  return found.complete ? 0 : 2;
}

async function showOutside(
  node: SlurmNode,
  found: OutsideReport,
  { words, output }: { readonly words: Words; readonly output: Output },
): Promise<number> {
  const names = await namesOf(
    node.host,
    found.outside.map(({ uid }) => uid),
  );
  const notes = [...node.notes, ...found.notes];
  const [first = '', ...trees] = outsideLines(found, names, output);
  if (words.flags.has('json')) output.print(json({ ...outsideJson(found, names), notes }));
  else
    output.print(
      `${nodeTitle(node, output)}: ${first}`,
      ...trees,
      ...(notes.length === 0 ? [] : ['', ...notes.map((note) => output.style('yellow', `note: ${visible(note)}`))]),
    );
  if (found.outside.length > 0) return 1;
  return found.complete ? 0 : 2;
}

function nodeTitle({ nodeName }: SlurmNode, output: Output): string {
  return output.style('bold', nodeName === undefined ? 'this node' : `node ${visible(nodeName)}`);
}

function renderStrays(
  node: SlurmNode,
  report: StraysReport,
  { names, output }: { readonly names: UserNames; readonly output: Output },
): readonly string[] {
  const notes = report.notes.map((note) => output.style('yellow', `note: ${visible(note)}`));
  return [
    straysHead(node, report, output),
    ...processTrees(report.strays, names, output),
    ...(notes.length === 0 ? [] : ['', ...notes]),
  ];
}

function straysHead(node: SlurmNode, { strays, complete }: StraysReport, output: Output): string {
  const name = nodeTitle(node, output);
  if (!complete && strays.length === 0)
    return `${name}: ${output.style('yellow', 'cannot tell which processes are strays')}`;
  if (!complete) return `${name}: ${output.style('red', `at least ${count(strays.length, 'stray')}`)}`;
  return `${name}: ${output.style(strays.length === 0 ? 'green' : 'red', strays.length === 0 ? 'no strays' : count(strays.length, 'stray'))}`;
}
