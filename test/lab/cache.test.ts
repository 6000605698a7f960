import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hasMountBelow, kept, type Recipe, startTimeOf } from './cache.js';

let folder: string;
let made: number;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-lab-'));
  made = 0;
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

function recipe(changes: Partial<Recipe> = {}): Recipe {
  const make = async (where: string) => {
    made++;
    fs.writeFileSync(path.join(where, 'done'), 'x');
  };
  return { name: 'thing', ingredients: ['1'], make, ...changes };
}

describe('kept()', () => {
  it('makes a thing once for a recipe, another for another', async () => {
    const first = await kept(recipe(), { folder });
    expect(await kept(recipe(), { folder })).toBe(first);
    expect(fs.readFileSync(path.join(first, 'done'), 'utf8')).toBe('x');
    expect(made).toBe(1);
    expect(await kept(recipe({ ingredients: ['2'] }), { folder })).not.toBe(first);
    expect(made).toBe(2);
  });

  it('leaves nothing of what failed half-way, and makes it again', async () => {
    const make = async (where: string) => {
      fs.writeFileSync(path.join(where, 'half'), 'x');
      throw new Error('no network');
    };
    await expect(kept(recipe({ make }), { folder })).rejects.toThrow('no network');
    expect(fs.readdirSync(folder)).toEqual([]);
    expect(fs.readdirSync(await kept(recipe(), { folder }))).toEqual(['done']);
  });

  it('takes what another process finished meanwhile', async () => {
    const make = async (where: string) => {
      fs.writeFileSync(path.join(where, 'mine'), 'x');
      await kept(recipe(), { folder });
    };
    expect(fs.readdirSync(await kept(recipe({ make }), { folder }))).toEqual(['done']);
    expect(fs.readdirSync(folder)).toHaveLength(1);
  });

  it('removes what a killed process left unfinished, and nothing of the living', async () => {
    const child = spawn('/bin/sleep', ['60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const living = `.unfinished-${child.pid}-${startTimeOf(child.pid ?? 0)}-00aa`;
    const dead = [`.unfinished-${child.pid}-1-00bb`, '.unfinished-4194305-1-00cc'];
    try {
      for (const name of [living, ...dead, 'thing-old', '.keep'])
        fs.mkdirSync(path.join(folder, name, 'below'), { recursive: true });
      const thing = path.basename(await kept(recipe(), { folder }));
      expect(fs.readdirSync(folder).sort()).toEqual(['.keep', living, 'thing-old', thing].sort());
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
});

it.each([
  ['/a/root', true],
  ['/a', true],
  ['/a/root/proc', false],
  ['/a/ro', false],
] as const)('hasMountBelow(%j) is %j', (below, expected) => {
  expect(hasMountBelow(below, '30 1 0:5 / / rw - ext4 /dev/vda rw\n31 30 0:6 / /a/root/proc rw - proc proc rw\n')).toBe(
    expected,
  );
});
