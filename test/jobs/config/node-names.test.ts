import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expandHostList, expandSlurmdPath, type NodeEntry, nodeNamesOf } from '../../../src/jobs/config/node-names.js';
import { SlurmCgroupsError } from '../../../src/machine/errors.js';

describe('expandHostList()', () => {
  test.each([
    ['vm', ['vm']],
    ['node[01-03,7]', ['node01', 'node02', 'node03', 'node7']],
    ['n[9-11]', ['n9', 'n10', 'n11']],
    ['n[099-101]', ['n099', 'n100', 'n101']],
    ['a,b[1-2],c', ['a', 'b1', 'b2', 'c']],
    ['n[1-2]-ib,login', ['n1-ib', 'n2-ib', 'login']],
    ['r[1-2]n[1-2]', ['r1n1', 'r1n2', 'r2n1', 'r2n2']],
    ['', []],
    ['a,,b ', ['a', 'b']],
  ])('%j', (text, hosts) => {
    expect(expandHostList(text)).toEqual(hosts);
  });

  test.each([
    ['n[1-2'],
    ['n1-2]'],
    ['n[2-1]'],
    ['n[a-b]'],
    ['n[]'],
    ['n[1,]'],
    ['n[1[2]]'],
    ['n[0-999999999]'],
    ['n[0-999]m[0-999]'],
    [`n[${'0-9,'.repeat(10_000)}1]`],
    [`n${'[0-1]'.repeat(200_000)}`],
  ])('refuses %j', (text) => {
    expect(() => expandHostList(text)).toThrow(expect.objectContaining({ code: 'ERR_PARSE' }));
  });

  test('gives names or our error for any text', () => {
    const sign = fc.constantFrom('[', ']', ',', '-', '1', '20', 'n', ' ');
    fc.assert(
      fc.property(
        fc.array(sign, { maxLength: 20 }).map((signs) => signs.join('')),
        (text) => {
          try {
            expect(expandHostList(text).every((host) => host !== '')).toBe(true);
          } catch (error) {
            expect(error).toBeInstanceOf(SlurmCgroupsError);
          }
        },
      ),
    );
  });
});

const place = { file: '/etc/slurm/slurm.conf', line: 7 };
const entry = (nodeNames: string, nodeHostNames?: string): NodeEntry => ({
  nodeNames,
  ...(nodeHostNames === undefined ? {} : { nodeHostNames }),
  place,
});

describe('nodeNamesOf()', () => {
  test.each([
    ['by its short name', [entry('n[1-9]')], 'n3.example.org', ['n3']],
    ['by its full name', [entry('n3.example.org')], 'n3.example.org', ['n3.example.org']],
    ['by NodeHostname', [entry('x[1-3]', 'host[7-9]')], 'host8', ['x2']],
    ['all that share it', [entry('x[1-3]', 'vm'), entry('y', 'vm')], 'vm', ['x1', 'x2', 'x3', 'y']],
    ['as localhost', [entry('localhost')], 'laptop', ['localhost']],
    ['none where it is not named', [entry('n[1-9]')], 'login', []],
    ['with attention to case', [entry('N1')], 'n1', []],
  ])('finds %s', (_, nodes, host, names) => {
    expect(nodeNamesOf(nodes, host)).toEqual(names);
  });

  test('says where a host list cannot be read', () => {
    const error = { code: 'ERR_PARSE', subject: { path: place.file, line: 7 } };
    expect(() => nodeNamesOf([entry('n[1-')], 'n1')).toThrow(expect.objectContaining(error));
  });
});

describe('expandSlurmdPath()', () => {
  test.each([
    ['/var/spool/slurmd', {}, '/var/spool/slurmd'],
    ['/var/spool/slurmd.%n', { nodeName: 'n1' }, '/var/spool/slurmd.n1'],
    ['/var/spool/%h/%n', { nodeName: 'n1', hostName: 'vm.example.org' }, '/var/spool/vm/n1'],
    ['/a/%n/%n', { nodeName: 'n1' }, '/a/n1/%n'],
    ['/a/%n', { nodeName: '$&' }, '/a/$&'],
    ['/a/%n', { hostName: 'vm' }, undefined],
    ['/a/%h', { nodeName: 'n1' }, undefined],
  ])('%s with %j', (path, names, expected) => {
    expect(expandSlurmdPath(path, names)).toBe(expected);
  });
});
