// Files of /etc in memory.

import type { EtcFiles } from '../../src/doctor/etc-files.js';

/** All of them root's. */
export function filesOf(texts: Readonly<Record<string, string>>): EtcFiles {
  const below = (folder: string) => (folder.endsWith('/') ? folder : `${folder}/`);
  return {
    text: async (file) => texts[file],
    names: (folder) =>
      [
        ...new Set(
          Object.keys(texts)
            .filter((file) => file.startsWith(below(folder)))
            .map((file) => file.slice(below(folder).length).replace(/\/.*/, '')),
        ),
      ].sort(),
    locate: async (file) =>
      texts[file] === undefined
        ? undefined
        : { path: file, target: file, size: texts[file].length, foreign: [], ownersUnknown: false },
    run: async () => undefined,
  };
}
