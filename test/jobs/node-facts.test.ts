import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { nodeNamesOf } from '../../src/jobs/config/node-names.js';
import type { NodeEntry, SlurmConfiguration } from '../../src/jobs/config/read.js';
import { formatNodeFacts, type NodeFacts, nodesOnHost, parseNodeFacts } from '../../src/jobs/node-facts.js';
import { ParseError } from '../../src/machine/errors.js';
import type { FileMark } from '../../src/machine/file-marks.js';

/** Any bytes of the kernel but NUL: lone surrogates stand for those that are no text. */
const anyWords = fc.string({
  unit: fc.constantFrom('a', '/', ' ', '=', '"', '\n', '\u009b', '\udcff', 'é', '__proto__'),
});
const anyPath = anyWords.map((words) => `/${words}`);
const anyText = fc.string({ unit: fc.constantFrom('a', 'Z', '%n', '/', '.', ' ', '[0-3]', 'é', '{', '"') });
const anyName = fc.oneof(
  fc.constantFrom('n1', '1', '__proto__', 'constructor'),
  anyText.filter((text) => text !== ''),
);
const inside = anyText.filter((text) => !text.split('/').includes('..'));
const texts = fc.array(anyName, { maxLength: 3 });
const place = fc.record({ file: anyPath, line: fc.integer({ min: 1 }) });
const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined });
const count = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

const anySlurmd = fc.record(
  { pid: fc.integer({ min: 2 }), configless: fc.boolean(), nodeName: anyName, file: anyWords, toldBy: anyWords },
  { requiredKeys: ['pid', 'configless'] },
);
const fields: { readonly [K in keyof Required<SlurmConfiguration>]: fc.Arbitrary<SlurmConfiguration[K]> } = {
  file: maybe(anyPath),
  foundBy: maybe(anyWords),
  cgroupFile: maybe(anyPath),
  files: fc.array(anyPath, { maxLength: 4 }),
  slurmd: maybe(anySlurmd),
  slurmdNames: maybe(texts),
  clusterName: maybe(anyText),
  slurmUser: maybe(anyText),
  slurmdUser: maybe(anyText),
  slurmdSpoolDir: maybe(anyText.map((text) => `/${text}`)),
  prologFlags: maybe(texts),
  proctrackType: maybe(anyText),
  taskPlugin: maybe(texts),
  jobAcctGatherType: maybe(anyText),
  jobContainerType: maybe(anyText),
  namespaceType: maybe(anyText),
  launchParameters: maybe(texts),
  nodes: fc.array(
    fc.record({ nodeNames: anyWords, nodeHostNames: anyWords, place }, { requiredKeys: ['nodeNames', 'place'] }),
    { maxLength: 3 },
  ),
  cgroupMountpoint: maybe(anyText.map((text) => `/${text}`)),
  cgroupPlugin: maybe(anyText),
  cgroupPrepend: maybe(inside),
  cgroupSlice: maybe(inside),
  cgroupJobIdPaths: maybe(fc.boolean()),
  ignoreSystemd: maybe(fc.boolean()),
  constrainCores: maybe(fc.boolean()),
  constrainRamSpace: maybe(fc.boolean()),
  constrainSwapSpace: maybe(fc.boolean()),
  constrainDevices: maybe(fc.boolean()),
  places: fc
    .array(fc.tuple(fc.constantFrom('slurmUser', 'cgroupSlice', '__proto__', '1'), place), { maxLength: 3 })
    .map((entries) => new Map(entries)),
  notes: fc.array(anyWords, { maxLength: 3 }),
};
const anyConfiguration: fc.Arbitrary<SlurmConfiguration> = fc.record(fields);
const anyMark: fc.Arbitrary<FileMark> = fc.record(
  { device: count, inode: count, size: count, mtimeNs: count, ctimeNs: count },
  { requiredKeys: ['inode', 'size', 'mtimeNs', 'ctimeNs'] },
);

const anyFacts: fc.Arbitrary<NodeFacts> = fc
  .record({ configuration: maybe(anyConfiguration), marks: fc.array(anyMark, { minLength: 4, maxLength: 4 }) })
  .chain(({ configuration, marks }) =>
    fc.record({
      bootId: fc.uuid(),
      hostName: maybe(anyName),
      nodeName: maybe(anyName),
      spools: fc.array(fc.tuple(anyName, anyPath), { maxLength: 3 }).map((entries) => new Map(entries)),
      configuration: fc.constant(configuration),
      files: fc.constant(
        new Map(
          (configuration?.files ?? []).flatMap((file, at) => (marks[at] === undefined ? [] : [[file, marks[at]]])),
        ),
      ),
      absent: fc.array(anyPath, { maxLength: 3 }),
    }),
  );
const withStart: fc.Arbitrary<NodeFacts> = fc
  .tuple(anyFacts, maybe(count))
  .map(([facts, slurmdStartTime]) => (slurmdStartTime === undefined ? facts : { ...facts, slurmdStartTime }));

test('parseNodeFacts() reads what formatNodeFacts() writes', () => {
  fc.assert(
    fc.property(withStart, (facts) => {
      expect(parseNodeFacts(formatNodeFacts(facts))).toEqual(facts);
    }),
    { numRuns: 500 },
  );
});

const place1 = { file: '/etc/slurm/slurm.conf', line: 1 };
const whole: NodeFacts = {
  bootId: 'f1c3',
  hostName: 'n1.example.org',
  nodeName: 'n1',
  spools: new Map([['n1', '/var/spool/slurmd']]),
  configuration: {
    file: '/etc/slurm/slurm.conf',
    foundBy: 'slurmd -f',
    cgroupFile: '/etc/slurm/cgroup.conf',
    files: ['/etc/slurm/slurm.conf', '/etc/slurm/cgroup.conf'],
    slurmd: { pid: 812, nodeName: 'n1', file: '/etc/slurm/slurm.conf', toldBy: 'slurmd -f', configless: false },
    slurmdNames: ['n1'],
    clusterName: 'c',
    slurmUser: 'slurm',
    slurmdUser: 'root',
    slurmdSpoolDir: '/var/spool/slurmd',
    prologFlags: ['contain'],
    proctrackType: 'proctrack/cgroup',
    taskPlugin: ['task/cgroup'],
    jobAcctGatherType: 'jobacct_gather/cgroup',
    launchParameters: ['ulimit_pam_adopt'],
    nodes: [{ nodeNames: 'n1', nodeHostNames: 'n1', place: place1 }],
    cgroupMountpoint: '/sys/fs/cgroup',
    cgroupPlugin: 'cgroup/v2',
    cgroupPrepend: '/slurm',
    cgroupSlice: 'system.slice',
    cgroupJobIdPaths: true,
    ignoreSystemd: false,
    constrainCores: true,
    constrainRamSpace: true,
    constrainSwapSpace: true,
    constrainDevices: true,
    places: new Map([['slurmUser', place1]]),
    notes: ['a note'],
  },
  slurmdStartTime: 4711n,
  files: new Map([
    ['/etc/slurm/slurm.conf', { device: 1n, inode: 2n, size: 3n, mtimeNs: 4n, ctimeNs: 5n }],
    ['/etc/slurm/cgroup.conf', { device: 1n, inode: 6n, size: 3n, mtimeNs: 4n, ctimeNs: 5n }],
  ]),
  absent: ['/run/slurm/conf/slurm.conf'],
};
const text = formatNodeFacts(whole);

type Steps = readonly (string | number)[];

/** Every place of a JSON value. */
function stepsIn(value: unknown, above: Steps = []): readonly Steps[] {
  if (typeof value !== 'object' || value === null) return [above];
  return [above, ...Object.entries(value).flatMap(([key, one]) => stepsIn(one, [...above, key]))];
}

/** The same with another value at that place. */
function withOther(value: unknown, [first, ...rest]: Steps, other: unknown): unknown {
  if (first === undefined) return other;
  if (Array.isArray(value)) return value.map((one, at) => (String(at) === first ? withOther(one, rest, other) : one));
  return Object.fromEntries(
    Object.entries(value ?? {}).map(([key, one]) => [key, key === first ? withOther(one, rest, other) : one]),
  );
}

describe('parseNodeFacts()', () => {
  const everywhere = stepsIn(JSON.parse(text));

  it('reads a whole one', () => {
    expect(parseNodeFacts(text)).toEqual(whole);
    expect(everywhere.length).toBeGreaterThan(70);
  });

  it.each(everywhere.map((steps) => [steps.join(' ') || 'the whole', steps] as const))(
    'takes nothing of another kind for %s',
    (_name, steps) => {
      // No field takes any of these.
      for (const other of [null, -1, 0.5, { a: {} }, [[]], [null]])
        expect(() => parseNodeFacts(JSON.stringify(withOther(JSON.parse(text), steps, other)))).toThrow(ParseError);
    },
  );

  it.each<[string, Steps, readonly unknown[]]>([
    ['another version', ['version'], [0, 2, '1', true]],
    ['no boot', ['bootId'], ['', 'a\nb', 7]],
    ['a node that is no text', ['nodeName'], ['', 'n1\u0000', '\udcff', true]],
    ['a spool that is not absolute', ['spools', 'n1'], ['', 'spool', '/a\0b', true]],
    ['a line that is none', ['configuration', 'places', 'slurmUser', 'line'], [0, '1', 1e300]],
    ['a path upwards', ['configuration', 'cgroupPrepend'], ['../a', '/a/..', '..', true]],
    ['a path upwards', ['configuration', 'cgroupSlice'], ['a/../b', 'a\nb']],
    ['a spool that is no text', ['configuration', 'slurmdSpoolDir'], ['spool', '/a\tb', '/\udcff', '']],
    ['a mount point that is no path', ['configuration', 'cgroupMountpoint'], ['cgroup', true]],
    ['a pid below 2', ['configuration', 'slurmd', 'pid'], [0, 1, '812', 1e300]],
    ['a word for yes', ['configuration', 'ignoreSystemd'], ['yes', 1]],
    ['a list with something else', ['configuration', 'launchParameters'], [['a', 1], 'a', ['a\nb']]],
    ['a file that is not absolute', ['configuration', 'file'], ['slurm.conf', true]],
    ['a number that is none', ['files', '0', 'inode'], ['', '1e3', '-1', '0x1', '123456789012345678901', 2]],
    ['a start time that is none', ['slurmdStartTime'], ['', '-1', 'a', 4711]],
  ])('refuses %s (%j)', (_what, steps, others) => {
    for (const other of others)
      expect(() => parseNodeFacts(JSON.stringify(withOther(JSON.parse(text), steps, other)))).toThrow(ParseError);
  });

  it.each(
    [
      ['version', 'bootId', 'spools', 'files', 'absent'].map((field) => [field]),
      ['files', 'nodes', 'places', 'notes'].map((field) => ['configuration', field]),
      ['pid', 'configless'].map((field) => ['configuration', 'slurmd', field]),
      ['path', 'inode', 'size', 'mtimeNs', 'ctimeNs'].map((field) => ['files', '0', field]),
    ].flat(),
  )('needs %s %s %s', (...steps) => {
    const without = JSON.stringify(withOther(JSON.parse(text), steps, undefined));
    expect(() => parseNodeFacts(without)).toThrow(ParseError);
  });

  it('needs a mark of every file that was read', () => {
    const { files, ...rest } = whole;
    const [first] = files;
    const lacking = { ...rest, files: new Map(first === undefined ? [] : [first]) };
    expect(() => parseNodeFacts(formatNodeFacts(lacking))).toThrow('its "files" lack "/etc/slurm/cgroup.conf"');
  });

  it('says which field is wrong', () => {
    const broken = JSON.stringify(withOther(JSON.parse(text), ['configuration', 'slurmd', 'pid'], 'x'));
    expect(() => parseNodeFacts(broken)).toThrow('its "slurmd: pid" is not as this command writes it');
    expect(() => parseNodeFacts('{"version":2}')).toThrow('another release wrote it');
  });

  it('gives facts or a ParseError for any text', () => {
    const cut = fc.nat(text.length - 2).map((length) => text.slice(0, length));
    const changed = fc
      .tuple(fc.nat(text.length - 1), fc.string({ minLength: 1, maxLength: 1 }))
      .map(([at, other]) => text.slice(0, at) + other + text.slice(at + 1));
    fc.assert(
      fc.property(fc.oneof(cut, changed, fc.string(), fc.json()), (any) => {
        try {
          parseNodeFacts(any);
        } catch (error) {
          if (!(error instanceof ParseError)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
    for (let length = 0; length < text.length - 1; length += 7)
      expect(() => parseNodeFacts(text.slice(0, length))).toThrow(ParseError);
  });
});

describe('nodesOnHost()', () => {
  const entry = (nodeNames: string, nodeHostNames?: string): NodeEntry => ({
    nodeNames,
    ...(nodeHostNames === undefined ? {} : { nodeHostNames }),
    place: place1,
  });

  it.each<[string, readonly NodeEntry[], readonly string[]]>([
    ['n7', [entry('n[1-9999]'), entry('m[1-9]')], ['n7']],
    ['n7.example.org', [entry('n[1-9]')], ['n7']],
    ['n7.example.org', [entry('a', 'n7.example.org')], ['a']],
    ['n7.example.org', [entry('full', 'n7.example.org'), entry('short', 'n7')], ['short']],
    ['box', [entry('vm[1-3]', 'box'), entry('x', 'other')], ['vm1', 'vm2', 'vm3']],
    ['box', [entry('a', 'localhost'), entry('b', 'localhost')], ['a', 'b']],
    ['odd name,[', [entry('a', 'localhost')], ['a']],
    ['localhost', [entry('localhost')], ['localhost']],
    ['stranger', [entry('n[1-9]')], []],
  ])('on %s keeps what names it', (hostName, nodes, names) => {
    const kept = nodesOnHost(nodes, hostName);
    expect(nodeNamesOf(nodes, hostName)).toEqual(names);
    expect(nodeNamesOf(kept, hostName)).toEqual(names);
    expect(kept.map(({ nodeNames }) => nodeNames)).toEqual(names);
  });

  it('keeps none where the host has no name', () => {
    expect(nodesOnHost([entry('n[1-9]')], undefined)).toEqual([]);
  });

  it('names the same nodes as before, on any host', () => {
    const name = fc.constantFrom('n1', 'n2', 'n[1-3]', 'localhost', 'n1.x', 'a,b');
    const nodes = fc.array(fc.record({ nodeNames: name, nodeHostNames: name, place: fc.constant(place1) }));
    fc.assert(
      fc.property(nodes, fc.constantFrom('n1', 'n1.x', 'n2.y', 'localhost', 'b'), (entries, hostName) => {
        const names = nodeNamesOf(entries, hostName);
        expect([...nodeNamesOf(nodesOnHost(entries, hostName), hostName)].sort()).toEqual([...names].sort());
      }),
    );
  });
});
