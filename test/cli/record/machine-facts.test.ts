import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { machineLine, parseMachine, readMachine } from '../../../src/cli/record/machine-facts.js';
import { liveHost } from '../../../src/machine/live-host.js';

const machine = {
  model: 'Dell Inc. PowerEdge R750',
  distribution: 'Debian GNU/Linux 13',
  kernel: 'Linux 6.12.5',
  processor: 'AMD EPYC 9654',
  cpus: 192,
  memoryBytes: 768 * 2 ** 30,
};

describe('readMachine()', () => {
  it('tells what this machine is, and leaves PATH as it was', async () => {
    const before = process.env['PATH'];
    const told = await readMachine(liveHost(), 100_000);
    expect(told?.kernel).toMatch(/^Linux \d/);
    expect(told?.memoryBytes).toBeGreaterThan(2 ** 20);
    expect(told?.cpus).toBeGreaterThan(0);
    expect(process.env['PATH']).toBe(before);
  }, 120_000);

  it('waits no longer than its deadline', async () => {
    expect(await readMachine({ ...liveHost(), sleep: async () => {} }, 1)).toBeUndefined();
  });
});

describe('machineLine(), parseMachine()', () => {
  it('write one line, and read what was recorded', () => {
    expect(machineLine(machine)).toBe(
      'Dell Inc. PowerEdge R750, AMD EPYC 9654, 192 CPUs, 768 GiB, Debian GNU/Linux 13, Linux 6.12.5',
    );
    expect(machineLine({ ...machine, cpus: 1, memoryBytes: 2 ** 30 })).toContain('1 CPU, 1.0 GiB');
    expect(parseMachine(JSON.stringify(machine))).toEqual(machine);
  });

  it.each(['{}', 'null', '3', '{"model":1}', 'not JSON'])('take %s for no machine', (text) => {
    expect(parseMachine(text)).toBeUndefined();
  });
});
