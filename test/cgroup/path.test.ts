import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cgroupPath, childPath, partsOf, pathBelow, rootPath } from '../../src/cgroup/path.js';
import { ParseError } from '../../src/machine/errors.js';
import { anyName, anyPath, anyText } from '../support/any-cgroups.js';

test.each([
  '/',
  '/slurm/uid_1000/job_7',
  '/system.slice/system-getty.slice/getty@tty1.service',
  '/../..',
  '/../sibling',
  '/a b/c:d\\e/(f)',
  '/...',
  '/.hidden',
  '/..a/a..',
  `/${'x'.repeat(255)}`,
  '/\udcff\udc80',
  '/\u001b[31m',
  '/ ',
])('cgroupPath() takes %j', (text) => {
  expect(cgroupPath(text)).toBe(text);
});

test.each([
  '',
  'a',
  'a/b',
  '//',
  '/a/',
  '/a//b',
  '/.',
  '/a/.',
  '/./a',
  '/a/./b',
  '/a\0b',
  '/a\nb',
  ' /a',
  '\n/',
  '/\n',
])('cgroupPath() refuses %j', (text) => {
  expect(() => cgroupPath(text)).toThrow(ParseError);
});

test('cgroupPath() gives the text or a ParseError for anything', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      try {
        expect(cgroupPath(text)).toBe(text);
      } catch (error) {
        expect(error).toBeInstanceOf(ParseError);
      }
    }),
  );
});

test('cgroupPath() takes a very long text in one go', () => {
  expect(() => cgroupPath(`${'/a'.repeat(50_000)}/`)).toThrow(ParseError);
  expect(partsOf(cgroupPath('/a'.repeat(50_000)))).toHaveLength(50_000);
});

test('partsOf() and childPath() are each the other way round', () => {
  fc.assert(
    fc.property(anyPath, (path) => {
      expect(childPath(rootPath, ...partsOf(path))).toBe(path);
    }),
  );
  expect(partsOf(rootPath)).toEqual([]);
});

test.each(['', '.', 'a/', '/a', 'a\0', 'a\n'])('childPath() refuses the name %j', (name) => {
  expect(() => childPath(cgroupPath('/a'), name)).toThrow(ParseError);
});

test('pathBelow() compares whole names', () => {
  const below = (path: string, ancestor: string) => pathBelow(cgroupPath(path), cgroupPath(ancestor));
  expect(below('/slurm/job_1', '/slurm')).toBe('/job_1');
  expect(below('/slurm', '/slurm')).toBe('/');
  expect(below('/slurm/job_1', '/')).toBe('/slurm/job_1');
  expect(below('/slurm2/job_1', '/slurm')).toBeUndefined();
  expect(below('/slurm', '/slurm/job_1')).toBeUndefined();
});

test('pathBelow() finds again what childPath() put below', () => {
  fc.assert(
    fc.property(anyPath, fc.array(anyName, { minLength: 1, maxLength: 4 }), (path, names) => {
      expect(pathBelow(childPath(path, ...names), path)).toBe(`/${names.join('/')}`);
    }),
  );
});
