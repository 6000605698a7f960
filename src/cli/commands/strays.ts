// slurm-cgroups strays: processes of people who have no job on this node, with the reason.

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
    'Looks at every process of a person (uid of UID_MIN of /etc/login.defs or above) and names those whose user has no ' +
    "job here, with the reason. Root, nobody, systemd's services and what stands in a job's cgroup are never named. " +
    'It only looks. Exit code 0: there are none. 1: there are some. 2: it is not known whose jobs are here, so nobody is named.',
  operands: [],
  flags: [
    { name: 'uid', takes: 'U', description: 'only processes of this user id' },
    { name: 'user', takes: 'NAME', description: 'only processes of this user' },
    fromFlag,
    // With several nodes on a machine a process cannot be told to be one node's: the jobs of all of them count.
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
  if (!complete) return `${name}: ${output.style('yellow', 'it cannot be told who is a stray')}`;
  return `${name}: ${output.style(strays.length === 0 ? 'green' : 'red', strays.length === 0 ? 'no strays' : count(strays.length, 'stray'))}`;
}

/** A tree for each user: the reason in its head, since it is the user who has no job. */
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
