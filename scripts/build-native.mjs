// npm run build:native: builds the PAM module, native/pam/build/pam_slurm_cgroups.so. It needs a C compiler (CC, else
// gcc, cc or clang) and the headers of libpam, nothing of Slurm's. A folder as argument: it is built there instead.
// --missing: says what is missing, and builds nothing.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const pam = path.join(path.dirname(path.dirname(fileURLToPath(import.meta.url))), 'native/pam');

/** Without them there is nothing to build with. */
export const strictFlags = [
  ...['-std=c11', '-D_GNU_SOURCE', '-g', '-Wall', '-Wextra', '-Werror', '-Wformat=2', '-Wshadow', '-Wconversion'],
  '-Wno-sign-conversion', // glibc's own types differ by compiler (rlimit's resource)
];
const hardening = [
  '-O2',
  '-fPIC',
  '-fvisibility=hidden',
  '-fstack-protector-strong',
  '-U_FORTIFY_SOURCE',
  '-D_FORTIFY_SOURCE=2',
];
/** Not every compiler and processor has them. */
const hardeningWhereKnown = ['-fstack-clash-protection', '-fcf-protection'];
const linking = ['-shared', '-Wl,-z,relro,-z,now,-z,noexecstack', '-Wl,--no-undefined'];

const isIn = (folder) => (name) => fs.existsSync(path.join(folder, name));
/** By its path or in PATH; undefined: it is not there. */
export const locate = (program) =>
  program.includes('/')
    ? [program].find(fs.existsSync)
    : (process.env.PATH ?? '').split(':').find((folder) => folder !== '' && isIn(folder)(program)) && program;

/** CC may hold words of its own: `ccache gcc`. */
export function compiler() {
  const chosen = process.env.CC?.trim();
  if (chosen) return locate(chosen.split(/\s+/)[0]) ? chosen.split(/\s+/) : undefined;
  return ['gcc', 'cc', 'clang'].filter(locate).map((name) => [name])[0];
}

function compiles(cc, text, words) {
  const run = spawnSync(cc[0], [...cc.slice(1), ...words, '-Werror', '-x', 'c', '-', '-o', '/dev/null'], {
    input: text,
  });
  return run.status === 0;
}

/** What is missing, one clear line; undefined: nothing. */
export function missing() {
  const cc = compiler();
  const header = 'no security/pam_modules.h (Debian: libpam0g-dev; RHEL: pam-devel)';
  if (cc === undefined) {
    const which = process.env.CC ? `no C compiler "${process.env.CC}" (CC)` : 'no C compiler';
    const also = fs.existsSync('/usr/include/security/pam_modules.h') ? '' : ` and ${header}`;
    return `${which} (Debian: gcc, libc6-dev; RHEL: gcc)${also}`;
  }
  if (!compiles(cc, '#include <stdio.h>\n', ['-c'])) return 'no headers of libc (Debian: libc6-dev; RHEL: glibc-devel)';
  if (!compiles(cc, '#include <security/pam_modules.h>\n', ['-c'])) return header;
  if (!compiles(cc, 'int main(void) { return 0; }\n', ['-lpam']))
    return 'no libpam to link with (Debian: libpam0g-dev; RHEL: pam-devel)';
  return undefined;
}

/** The module's own sources; the target of the fuzzer is a program of its own. */
export const sources = () =>
  fs
    .readdirSync(pam)
    .filter((name) => name.endsWith('.c') && !name.startsWith('fuzz-'))
    .sort()
    .map((name) => path.join(pam, name));

/** Builds into `folder`, and gives the path of the module. */
export function buildModule(folder) {
  const lack = missing();
  if (lack !== undefined) throw new Error(`Cannot build the PAM module: ${lack}`);
  const cc = compiler();
  const known = hardeningWhereKnown.filter((flag) => compiles(cc, '', ['-c', flag]));
  const file = path.join(folder, 'pam_slurm_cgroups.so');
  const unfinished = `${file}.${process.pid}`;
  fs.mkdirSync(folder, { recursive: true });
  try {
    const words = [
      ...cc.slice(1),
      ...strictFlags,
      ...hardening,
      ...known,
      ...linking,
      '-o',
      unfinished,
      ...sources(),
      '-lpam',
    ];
    const run = spawnSync(cc[0], words, { stdio: ['ignore', 2, 2] });
    if (run.status !== 0) throw new Error('Cannot build the PAM module: the compiler refused it, see above');
    fs.renameSync(unfinished, file);
  } finally {
    fs.rmSync(unfinished, { force: true });
  }
  return file;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (process.argv[2] === '--missing') console.log(missing() ?? '');
    else
      console.log(path.relative(process.cwd(), buildModule(path.resolve(process.argv[2] ?? path.join(pam, 'build')))));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
