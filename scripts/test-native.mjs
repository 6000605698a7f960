// npm run test:native: what looks for mistakes in the PAM module by itself. clang's analyzer over its sources, libFuzzer
// for a while on what reads others' text (FUZZ_SECONDS, default 20), valgrind over the tests of its pieces, valgrind and
// the sanitizers over real logins where this is root. The tests of what it does are in test/native (npm test).

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { buildModule, compiler, locate, missing, sources, strictFlags } from './build-native.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const pam = path.join(root, 'native/pam');
const tests = path.join(root, 'test/native');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-native-'));
const seconds = Number(process.env.FUZZ_SECONDS ?? 20);
const at = (name) => path.join(folder, name);
const part = (name) => path.join(pam, `${name}.c`);
const pure = ['number', 'options', 'plain', 'reply', 'request', 'self', 'trust', 'enter', 'child'].map(part);
const flags = [...strictFlags, `-I${pam}`];
const allowed = 'slurm-cgroups-answer 1|action allow|log 6 adopted|process @PID@ @START@|job 5|end|';

let failed = 0;

function run(name, words, { quiet = false, env = {} } = {}) {
  const start = Date.now();
  const { status, error, stdout, stderr } = spawnSync(words[0], words.slice(1), {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 2 ** 26,
  });
  const good = status === 0 && error === undefined;
  if (!good) failed++;
  if (!good || !quiet) process.stderr.write(`${stdout ?? ''}${stderr ?? ''}${error ? `${error.message}\n` : ''}`);
  console.log(`${good ? 'ok' : 'FAILED'}: ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  return good ? `${stdout}${stderr}` : undefined;
}

function lacking() {
  const programs = [
    ['clang', 'clang, clang-tools'],
    ['valgrind', 'valgrind'],
  ].filter(([program]) => !locate(program));
  const target = 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return data != 0 && size == 99; }';
  const words = ['-fsanitize=fuzzer,address', '-x', 'c', '-', '-o', at('probe')];
  if (locate('clang') && spawnSync('clang', words, { input: target }).status !== 0)
    return [missing(), 'no libFuzzer for clang (Debian: libclang-rt-dev)'].filter(Boolean);
  return [missing(), ...programs.map(([program, debian]) => `no ${program} (Debian: ${debian})`)].filter(Boolean);
}

function analyze() {
  for (const file of sources()) {
    const words = ['clang', '--analyze', '-Xclang', '-analyzer-werror', '-Xclang', '-analyzer-output=text', ...flags];
    run(`clang --analyze ${path.basename(file)}`, [...words, '-o', at('analysis'), file], { quiet: true });
  }
}

function fuzz() {
  const words = ['-O1', '-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all', '-o', at('fuzz')];
  const parts = ['fuzz-reply', 'number', 'plain', 'reply', 'self'].map(part);
  if (run('clang -fsanitize=fuzzer,address,undefined', ['clang', ...flags, ...words, ...parts]) === undefined) return;
  // Where it begins: a whole reply, and the files of /proc that it reads too.
  fs.mkdirSync(at('seeds'));
  fs.writeFileSync(
    at('seeds/reply'),
    'slurm-cgroups-answer 1\naction allow\nreason x%25\nlog 6 y\nmessage z\nprocess 5 6\njob 5\ncounted 1\nfailure deny\ncgroup memory /a\ncgroup - /b\nfrom /c\ndisplay d\nxauthority e\nstepd 9728 /f/g\nnamespaces account\nend\n',
  );
  for (const name of ['stat', 'cgroup']) fs.copyFileSync(`/proc/self/${name}`, at(`seeds/${name}`));
  const said = run(
    `libFuzzer, ${seconds} s`,
    [
      at('fuzz'),
      `-max_total_time=${seconds}`,
      '-max_len=70000',
      '-seed=1',
      '-timeout=10',
      `-artifact_prefix=${os.tmpdir()}/slurm-cgroups-fuzz-`,
      at('seeds'),
    ],
    { quiet: true },
  );
  console.log(`    ${/Done \d+ runs.*/.exec(said ?? '')?.[0] ?? 'no runs were counted'}`);
}

const [cc, ...ccWords] = compiler() ?? [];

function compile(name, words) {
  const flagsOfTests = ['-std=c11', '-D_GNU_SOURCE', '-g', '-O1', `-I${pam}`];
  run(`compiling ${name}`, [cc, ...ccWords, ...flagsOfTests, '-o', at(name), ...words], { quiet: true });
}

/** Real logins, whose caller and module are watched: by valgrind, then by the sanitizers. */
const logins = [
  ['a login', `part=answer ${allowed}`, 'call=account', 'call=account', 'call=open', 'call=close'],
  ['a refusal', 'part=refused slurm-cgroups-answer 1|action deny|message no job|end|', 'call=account'],
  ['a helper that crashes', 'part=crashes', 'call=account'],
  ['a helper that says too much', 'part=much', 'call=account'],
  ['a helper that is not there', 'unlink=/run/test/helper', 'call=account'],
  ['a helper that hangs', 'part=hangs', 'call=account'],
  [
    'a session that was moved',
    ...['mkdir=/run/slurm-cgroups', 'mkdir=/run/slurm-cgroups/logins'],
    `file=/run/slurm-cgroups/logins/@PID@-@START@=slurm-cgroups-answer 1|action allow|process @PID@ @START@|job 5|cgroup - /nowhere|from /nowhere|end|`,
    ...['part=answer slurm-cgroups-answer 1|action ignore|end|', 'call=open', 'call=close'],
  ],
];

function watched(how, before, program, module, options) {
  for (const [name, ...steps] of logins) {
    const words = [program, module, at('puppet'), 'words=helper=/run/test/helper budget=3s', ...steps];
    const said = run(`${how}: ${name}`, [...before, ...words], { quiet: true, ...options });
    if (said !== undefined && !/^result /m.test(said)) {
      failed++;
      console.log('FAILED: no call came to its end');
    }
  }
}

function watch() {
  const valgrind = ['valgrind', '-q', '--child-silent-after-fork=yes', '--error-exitcode=9'];
  const leaks = ['--leak-check=full', '--errors-for-leak-kinds=definite'];
  compile('pieces', [path.join(tests, 'pieces.c'), ...pure]);
  run('valgrind: the pieces', [...valgrind, ...leaks, at('pieces'), '2000'], { quiet: true });
  if (process.geteuid() !== 0) {
    console.log('left out: real logins, which take root');
    return;
  }
  const login = [
    '-rdynamic',
    '-pthread',
    path.join(tests, 'login.c'),
    ...['self', 'reply', 'number'].map(part),
    '-lpam',
  ];
  compile('puppet', [path.join(tests, 'puppet.c')]);
  compile('login', login);
  watched('valgrind', [...valgrind, ...leaks], at('login'), buildModule(folder), {});

  const checks = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  compile('sanitized-login', [...checks, ...login]);
  compile('sanitized.so', [...checks, '-fPIC', '-shared', '-fvisibility=hidden', ...sources(), '-lpam']);
  watched('sanitizers', [], at('sanitized-login'), at('sanitized.so'), {});
}

const lacks = lacking();
if (lacks.length > 0) {
  console.error(`Cannot test the PAM module: ${lacks.join('; ')}`);
  process.exitCode = 1;
} else {
  try {
    analyze();
    fuzz();
    watch();
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
  console.log(failed === 0 ? 'all good' : `${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}
