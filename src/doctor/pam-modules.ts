// Where the files of PAM's modules lie, and whether one that a line names can be loaded at all.

import { hasCode, quote } from '../machine/errors.js';
import { formatMode } from '../machine/guarded-files.js';
import type { EtcFiles } from './etc-files.js';
import type { PamLine } from './pam-stack.js';

/** `unknown`: the recording does not hold its folder, or no folder of modules was found. */
export type ModuleState =
  | { readonly is: 'there' | 'unknown' }
  | { readonly is: 'missing'; readonly why: string }
  | { readonly is: 'unsafe'; readonly why: string };

/** Finds out about modules; what was asked once is kept. */
export interface PamModules {
  state(line: Pick<PamLine, 'module' | 'file' | 'args'>): Promise<ModuleState>;
  /** The folders of modules hold as many as PAM itself brings: one that is not among them is missing. */
  areComplete(): boolean;
}

/** DEFAULT_MODULE_PATH is compiled in: one of these, by distribution. */
const folders: readonly string[] = [
  '/usr/lib64/security',
  '/lib64/security',
  '/usr/lib/security',
  '/lib/security',
  ...['x86_64', 'aarch64', 'powerpc64le', 's390x', 'riscv64'].flatMap((machine) => [
    `/usr/lib/${machine}-linux-gnu/security`,
    `/lib/${machine}-linux-gnu/security`,
  ]),
];
/** Debian's PAM looks here too (its patch lib_security_multiarch_compat). */
const alsoOnDebian: readonly string[] = ['/usr/lib/security', '/lib/security'];

export function pamModules(files: EtcFiles): PamModules {
  const known = new Map<string, Promise<ModuleState>>();
  let searched: ModuleFolders | undefined;
  const find = async (file: string): Promise<ModuleState> => {
    try {
      if (file.startsWith('/') && !file.includes('$ISA')) return await stateOf(files, [file]);
      const name = file.includes('$ISA') ? file.slice(file.lastIndexOf('/') + 1) : file;
      searched ??= foldersOf(files);
      if (searched.folders.length === 0) return { is: 'unknown' };
      return await stateOf(
        files,
        searched.folders.map((folder) => `${folder}/${name}`),
      );
    } catch (error) {
      if (hasCode(error, 'ERR_NOT_RECORDED', 'ERR_TIMEOUT')) return { is: 'unknown' };
      if (hasCode(error, 'ERR_CONFIG')) return { is: 'unsafe', why: error.message };
      throw error;
    }
  };
  return {
    areComplete: () => (searched?.own ?? 0) >= fewest,
    state: (line) => {
      const file = programOf(line) ?? line.file;
      const found = known.get(file) ?? find(file);
      known.set(file, found);
      return found;
    },
  };
}

/** pam_exec's own file is part of PAM; what it runs is what has to be there. */
function programOf({ module, args }: Pick<PamLine, 'module' | 'args'>): string | undefined {
  return module === 'pam_exec' ? args.find((word) => word.startsWith('/')) : undefined;
}

interface ModuleFolders {
  readonly folders: readonly string[];
  /** How many modules there are beside PAM's own. */
  readonly own: number;
}

/** Linux-PAM installs about fifty. */
const fewest = 10;

/** Where this machine's PAM looks: in the folders with PAM's own modules, else in every one that has modules. */
function foldersOf(files: EtcFiles): ModuleFolders {
  const lists = folders.map((folder) => ({
    folder,
    names: files.names(folder).filter((name) => /^pam_.*\.so$/.test(name)),
  }));
  const own = lists.filter(({ names }) => names.includes('pam_permit.so') || names.includes('pam_unix.so'));
  if (own.length === 0)
    return { folders: lists.filter(({ names }) => names.length > 0).map(({ folder }) => folder), own: 0 };
  const isDebian = own.some(({ folder }) => folder.includes('-linux-gnu/'));
  return {
    folders: [...new Set([...own.map(({ folder }) => folder), ...(isDebian ? alsoOnDebian : [])])],
    own: Math.max(...own.map(({ names }) => names.length)),
  };
}

async function stateOf(files: EtcFiles, candidates: readonly string[]): Promise<ModuleState> {
  for (const file of candidates) {
    const found = await files.locate(file);
    if (found === undefined) continue;
    const [stranger] = found.foreign;
    if (stranger === undefined) return { is: 'there' };
    const what = stranger.path === file ? 'it' : quote(stranger.path);
    return {
      is: 'unsafe',
      why: `${quote(file)} is run as root at every login, and ${what} belongs to uid ${stranger.uid} (mode ${formatMode(stranger.mode)}); give it to root (chown root ${quote(stranger.path)})`,
    };
  }
  const [first = ''] = candidates;
  const where =
    candidates.length === 1 ? first : candidates.map((file) => file.slice(0, file.lastIndexOf('/'))).join(', ');
  return {
    is: 'missing',
    why: candidates.length === 1 ? `${quote(first)} does not exist` : `it is in none of ${where}`,
  };
}
