import { describe, expect, it } from 'vitest';
import type { LoginRequest } from '../../src/adopt/login-protocol.js';
import { inJob, notInJob, plainReply, settingIn, severities } from '../../src/adopt/login-words.js';
import { defaultOptions } from '../../src/policy/options.js';

const request: LoginRequest = {
  ...{ phase: 'account', deadlineMs: 1, user: 'alice', uid: 1001, pid: 5, startTime: 6n, threads: 1 },
  ...{ service: 'sshd', options: [], isCounted: false },
};
const refused = {
  action: 'deny',
  rule: 'no-jobs',
  reason: 'You have no active jobs on this node',
  trace: ['a', 'b'],
} as const;

describe('plainReply()', () => {
  it('tells a refused user why, in the site’s words where it has some', () => {
    const plain = plainReply(request, refused, { options: defaultOptions, messages: {} });
    expect(plain.messages).toEqual(['Access denied by pam_slurm_cgroups: you have no active jobs on this node']);
    const site = plainReply(request, refused, { options: defaultOptions, messages: { 'no-jobs': 'Use salloc.' } });
    expect(site.messages).toEqual(['Use salloc.']);
    const allowed = plainReply(request, { ...refused, action: 'allow' }, { options: defaultOptions, messages: {} });
    expect(allowed.messages).toEqual([]);
  });

  it('logs as much as log_level says', () => {
    const lines = (logLevel: 'quiet' | 'info' | 'verbose') =>
      plainReply(request, refused, { options: { ...defaultOptions, logLevel }, messages: {} }).log;
    const info = [{ severity: severities.info, line: `Connection by user alice: deny: ${refused.reason}` }];
    expect(lines('quiet')).toEqual([]);
    expect(lines('info')).toEqual(info);
    expect(lines('verbose')).toEqual([...info, ...refused.trace.map((line) => ({ severity: severities.info, line }))]);
  });
});

it('inJob() and notInJob() say where a session is', () => {
  expect(inJob(5)).toBe('This session is in job 5: it has its limits, and ends with it');
  expect(inJob(undefined)).toMatch(/^This session is in a job of yours:/);
  expect(notInJob({ reason: 'x' })).toBe('x: this session is in no job');
});

describe('settingIn()', () => {
  const { display, xauthority, stepd, namespaces } = settingIn(
    {
      ...{ x11: { display: 7, xauthority: '/tmp/x' }, stepd: { version: 9728, path: '/s/n_5.4294967292' } },
      ...{ namespaces: 'unknown', notes: [] },
    },
    { ...defaultOptions, joinContainer: 'account' },
  );
  it('is what the module is told', () => {
    expect({ display, xauthority, stepd, namespaces }).toEqual({
      ...{ display: 'localhost:7.0', xauthority: '/tmp/x', stepd: { version: 9728, path: '/s/n_5.4294967292' } },
      namespaces: ['unknown', 'account'],
    });
  });
  it('is empty where there is nothing', () => {
    expect(settingIn({ namespaces: 'none', notes: [] }, { ...defaultOptions, joinContainer: 'account' })).toEqual({
      namespaces: [],
    });
  });
});
