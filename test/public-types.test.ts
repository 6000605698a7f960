// Every type that a public declaration mentions can be imported: otherwise a program cannot write down what it was
// given. Checked on the declarations as tsc emits them, and by compiling a program that names each.

import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mentionedTypes } from './support/declarations.js';

const root = path.resolve(import.meta.dirname, '..');
const tsc = path.join(root, 'node_modules/typescript/bin/tsc');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-types-'));

/** The package may be imported by two names: a type of the root is at hand for a user of `testing`, too. */
const entries = ['index.d.ts', 'testing.d.ts'] as const;

beforeAll(() => {
  execFileSync(process.execPath, [
    tsc,
    ...['-p', path.join(root, 'tsconfig.build.json'), '--emitDeclarationOnly', '--outDir', folder],
  ]);
}, 120_000);

afterAll(() => fs.rmSync(folder, { recursive: true }));

/** What tsc says of programs of a user's, compiled as strictly as this package is. */
function compile(...programs: readonly string[]): string {
  const files = programs.map((text, at) => {
    const file = path.join(folder, `program-${at}.ts`);
    fs.writeFileSync(file, text);
    return file;
  });
  const options = ['--strict', '--target', 'es2023', '--module', 'nodenext', '--types', 'node', '--noEmit'];
  const types = ['--typeRoots', path.join(root, 'node_modules/@types')];
  const { stdout } = spawnSync(process.execPath, [tsc, ...options, ...types, ...files], {
    encoding: 'utf8',
    cwd: folder,
  });
  return stdout;
}

describe('The public types', () => {
  it('mention none that cannot be imported', () => {
    const inRoot = mentionedTypes(folder, 'index.d.ts');
    expect(inRoot.missing).toEqual([]);
    const ofRoot = new Set(inRoot.exported.values());
    const { missing } = mentionedTypes(folder, 'testing.d.ts');
    expect(missing.filter((one) => !ofRoot.has(one.replace(/, by \w+$/, '')))).toEqual([]);
  });

  it('would be noticed if one was left out', () => {
    const index = path.join(folder, 'index.d.ts');
    const text = fs.readFileSync(index, 'utf8');
    const broken = text.replace(/\btype Stray, /, '').replace(/\btype StraysReport\b,?/, '');
    expect(broken).not.toBe(text);
    fs.writeFileSync(path.join(folder, 'broken.d.ts'), broken);
    const before = mentionedTypes(folder, 'index.d.ts').missing;
    const { missing } = mentionedTypes(folder, 'broken.d.ts');
    expect(missing.filter((one) => !before.includes(one))).toEqual([
      'cleanup/strays/find.d.ts Stray, by OutsideProcess',
      'cleanup/strays/find.d.ts StraysReport, by findStrays',
    ]);
  });

  it('can all be named by a program', { timeout: 120_000 }, () => {
    const naming = entries.map((entry) => {
      const names = [...mentionedTypes(folder, entry).exported.keys()].join(', ');
      return `export type { ${names} } from './${entry.replace('.d.ts', '.js')}';`;
    });
    const using = `
      import {
        findStrays, type FindStraysOptions, hasCode, type Job, type JobLimits, type JobProcess, type JobUsage, limitsOf,
        processesOf, readNode, type SlurmNode, type Stray, type StraysReport, usageOf,
      } from './index.js';
      export async function strays(options: FindStraysOptions): Promise<readonly Stray[]> {
        const report: StraysReport = await findStrays(options);
        return report.strays;
      }
      export async function figures(job: Job): Promise<[JobUsage, JobLimits, readonly JobProcess[]] | undefined> {
        try {
          const node: SlurmNode = await readNode();
          return [await usageOf(job, { node }), limitsOf(job, { node }), await processesOf(job, { node })];
        } catch (error) {
          if (hasCode(error, 'ERR_NO_CGROUPS')) return undefined;
          throw error;
        }
      }
    `;
    expect(compile(...naming, using)).toBe('');
    expect(compile("export type { NotThere } from './index.js';")).toContain("has no exported member 'NotThere'");
  });
});
