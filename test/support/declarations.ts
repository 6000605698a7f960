// Which types a package mentions in what it exports, read from its declaration files as tsc writes them: each
// declaration begins in the first column. A name counts where its file imports or declares it.

import fs from 'node:fs';
import path from 'node:path';

/** A declaration: `cgroup/cgroup.d.ts Cgroup`. */
export type DeclarationKey = string;

interface DeclarationFile {
  /** What each name in scope stands for, and of what other file a re-exported one is. */
  readonly scope: ReadonlyMap<string, DeclarationKey>;
  /** Names it exports, and what they stand for. */
  readonly exports: ReadonlyMap<string, DeclarationKey>;
  /** The text of each declaration, without comments and string literals. */
  readonly texts: ReadonlyMap<string, string>;
  /** Names that are values alone: a program gets at what `typeof` makes of them by the type that mentions them. */
  readonly values: ReadonlySet<string>;
}

const clause = /^(import|export)(?: type)? \{([^}]*)\}(?: from ["']([^"']+)["'])?;$/gm;
const declaration =
  /^(?:export )?(?:declare )?(?:abstract )?(?:interface|type|class|function|const|enum|namespace) (\w+)/;

export function readDeclarations(folder: string, file: string): DeclarationFile {
  const text = fs
    .readFileSync(path.join(folder, file), 'utf8')
    .replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
    .trim();
  const [scope, exported, texts] = [new Map<string, string>(), new Map<string, string>(), new Map<string, string>()];
  const values = new Set<string>();
  for (const statement of text.split(/^(?=\S)(?![})\]])/m)) {
    const name = declaration.exec(statement)?.[1];
    if (name === undefined) continue;
    scope.set(name, `${file} ${name}`);
    texts.set(name, (texts.get(name) ?? '') + statement.replace(/'[^'\n]*'|"[^"\n]*"/g, "''"));
    if (/^(?:export )?(?:declare )?(?:const|function) /.test(statement)) values.add(name);
    if (statement.startsWith('export ')) exported.set(name, `${file} ${name}`);
  }
  for (const [, kind, names = '', from] of text.matchAll(clause)) {
    const other = from?.startsWith('.') ? path.join(path.dirname(file), from.replace(/\.js$/, '.d.ts')) : undefined;
    if (from !== undefined && other === undefined) continue; // of another package, or of Node.js
    for (const one of names.split(',').flatMap((part) => part.trim().replace(/^type /, '') || [])) {
      const [own = one, here = own] = one.split(' as ');
      const key = other === undefined ? (scope.get(own) ?? `${file} ${own}`) : `${other} ${own}`;
      (kind === 'import' ? scope : exported).set(here, key);
    }
  }
  return { scope, exports: exported, texts, values };
}

/** Declarations that those exported by `entry` mention, and whether the entry exports them: `missing` are those it does not. */
export function mentionedTypes(
  folder: string,
  entry: string,
): { readonly exported: ReadonlyMap<string, DeclarationKey>; readonly missing: readonly string[] } {
  const files = new Map<string, DeclarationFile>();
  const read = (file: string): DeclarationFile => {
    const known = files.get(file) ?? readDeclarations(folder, file);
    files.set(file, known);
    return known;
  };
  /** Where it is declared: a file may hand on what another one declares. */
  const declared = (key: DeclarationKey): DeclarationKey => {
    const [file = '', name = ''] = key.split(' ');
    const { exports, texts } = read(file);
    const next = texts.has(name) ? key : exports.get(name);
    if (next === undefined) throw new Error(`${file} declares no ${name}`);
    return next === key ? key : declared(next);
  };
  const isType = (key: DeclarationKey) => {
    const [file = '', name = ''] = key.split(' ');
    return !read(file).values.has(name);
  };
  const exported = new Map([...read(entry).exports].map(([name, key]) => [name, declared(key)]));
  const known = new Set(exported.values());
  const missing = new Set<string>();
  for (const key of known) {
    const [file = '', name = ''] = key.split(' ');
    const { scope, texts } = read(file);
    const text = texts.get(name) ?? '';
    for (const [word] of text.matchAll(/(?<![.\w])[A-Za-z_]\w*(?!\w*\??:)/g)) {
      const other = scope.get(word);
      if (other !== undefined && isType(declared(other)) && !known.has(declared(other)))
        missing.add(`${declared(other)}, by ${name}`);
    }
  }
  return { exported, missing: [...missing].sort() };
}
