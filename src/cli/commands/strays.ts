// slurm-cgroups strays: processes of users who have no job on this node, with the reason.

import { findStrays, type Stray, type StraysReport } from '../../cleanup/strays/find.js';
import type { SlurmNode } from '../../jobs/node.js';
import { defined } from '../../machine/defined.js';
import { openContext, requireSlurm } from '../context.js';
import { type CommandSpec, commonFlags, fromFlag, type Words, whose } from '../spec.js';
import { columns, count, json, type Output, standardOutput, treeLines, visible } from '../terminal/output.js';
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
    fromFlag,
    // Where several nodes share a machine, a process belongs to none of them in particular: the jobs of all count.
    ...commonFlags.filter((flag) => flag.name !== 'node'),
  ],
  examples: [
    ['slurm-cgroups strays', 'who runs something here without a job?'],
    ['slurm-cgroups strays --user alice', "only alice's"],
    ['slurm-cgroups strays --json | jq .strays[].pid', 'for programs'],
  ],
};

export async function runStrays(words: Words, output: Output = standardOutput()): Promise<number> {
  const said = whose(words);
  const { node, log } = await openContext('strays', words);
  await requireSlurm(node);
  const uid = said === undefined ? undefined : 'uid' in said ? said.uid : await requireUid(node.host, said.user);
  const found = await findStrays({ node, ...defined({ uid }) });
  log('info', `found ${count(found.strays.length, 'stray')}`, { complete: found.complete });
  const names = await namesOf(
    node.host,
    found.strays.map((stray) => stray.uid),
  );
  const report = { ...found, notes: [...node.notes, ...found.notes] };
  if (words.flags.has('json'))
    output.print(json({ ...report, strays: report.strays.map((stray) => withName(stray, names)) }));
  else output.print(...renderStrays(node, report, { names, output }));
  if (found.strays.length > 0) return 1;
  return found.complete ? 0 : 2;
}

function withName(stray: Stray, names: UserNames): Stray & { readonly user?: string } {
  const user = names(stray.uid);
  return user === undefined ? stray : { ...stray, user };
}

function renderStrays(
  node: SlurmNode,
  report: StraysReport,
  { names, output }: { readonly names: UserNames; readonly output: Output },
): readonly string[] {
  const notes = report.notes.map((note) => output.style('yellow', `note: ${visible(note)}`));
  return [
    straysHead(node, report, output),
    ...treesOf(report.strays, names, output),
    ...(notes.length === 0 ? [] : ['', ...notes]),
  ];
}

function straysHead(node: SlurmNode, { strays, complete }: StraysReport, output: Output): string {
  const name = output.style('bold', node.nodeName === undefined ? 'this node' : `node ${visible(node.nodeName)}`);
  if (!complete && strays.length === 0)
    return `${name}: ${output.style('yellow', 'cannot tell which processes are strays')}`;
  if (!complete) return `${name}: ${output.style('red', `at least ${count(strays.length, 'stray')}`)}`;
  return `${name}: ${output.style(strays.length === 0 ? 'green' : 'red', strays.length === 0 ? 'no strays' : count(strays.length, 'stray'))}`;
}

/** A tree for each user, with the reason on top: it is the user who has no job. */
function treesOf(strays: readonly Stray[], names: UserNames, output: Output): readonly string[] {
  const byUser = new Map<number, Stray[]>();
  for (const stray of strays) {
    const own = byUser.get(stray.uid);
    if (own === undefined) byUser.set(stray.uid, [stray]);
    else own.push(stray);
  }
  return [...byUser].flatMap(([uid, own]) => {
    const user = names(uid);
    const head = `${output.style('bold', user === undefined ? `uid ${uid}` : `${visible(user)} (uid ${uid})`)}: ${visible(own[0]?.proof ?? '')}`;
    const rows = columns(
      own.map((stray) => [
        String(stray.pid),
        visible(stray.comm),
        ageText(stray),
        cpuOf(stray),
        sizeOf(stray),
        visible(stray.cgroup),
      ]),
    );
    return ['', head, ...treeLines(rows.map((line) => ({ line })))];
  });
}

const spans = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
] as const;

function ageText({ ageSeconds }: Stray): string {
  if (ageSeconds === undefined) return '';
  const [seconds, unit] = spans.find(([span]) => ageSeconds >= span) ?? [1, 's'];
  return `${Math.floor(ageSeconds / seconds)} ${unit} old`;
}

function cpuOf({ cpuPercent }: Stray): string {
  return cpuPercent === undefined ? '' : `${cpuPercent} % CPU`;
}

function sizeOf({ memoryBytes }: Stray): string {
  return `${(memoryBytes / 2 ** 20).toFixed(1)} MiB`;
}
