// Any options that parseOptions can give, for the properties of options and decisions.

import fc from 'fast-check';
import { rankNames } from '../../src/policy/newest.js';
import type { AdoptionOptions } from '../../src/policy/options.js';
import { logLevels } from '../../src/policy/options.js';

const ms = (least: number) =>
  fc.oneof(fc.constantFrom(1, 500, 1000, 2000, 120_000), fc.integer({ min: least, max: 120_000 }));

export const anyOptions: fc.Arbitrary<AdoptionOptions> = fc.record(
  {
    actionNoJobs: fc.constantFrom('deny', 'ignore'),
    actionUnknown: fc.constantFrom('newest', 'allow', 'deny', 'user'),
    actionAdoptFailure: fc.constantFrom('allow', 'deny'),
    actionGenericFailure: fc.constantFrom('ignore', 'allow', 'deny'),
    actionSuspended: fc.constantFrom('deny', 'allow', 'next'),
    ignoreRoot: fc.boolean(),
    singleJobSkipRpc: fc.boolean(),
    prefer: fc.boolean(),
    rank: fc.constantFrom(...rankNames),
    mode: fc.constantFrom('enforce', 'observe'),
    service: fc.constantFrom('sshd', '*', 'login', 'sshd-internal'),
    nodename: fc.constantFrom('vm', 'node-01.example.org', 'n_1'),
    sessionOomAdj: fc.integer({ min: -1000, max: 1000 }),
    disableX11: fc.boolean(),
    joinContainer: fc.constantFrom(true, false, 'account' as const),
    logLevel: fc.constantFrom(...logLevels),
    callerIdTimeoutMs: fc.oneof(fc.constant(0), ms(0)),
    budgetMs: ms(1),
    waitForJobMs: fc.oneof(fc.constant(0), ms(0)),
  },
  {
    noNullPrototype: true,
    requiredKeys: [
      'actionNoJobs',
      'actionUnknown',
      'actionAdoptFailure',
      'actionGenericFailure',
      'actionSuspended',
      'ignoreRoot',
      'singleJobSkipRpc',
      'prefer',
      'rank',
      'mode',
      'service',
      'disableX11',
      'joinContainer',
      'logLevel',
      'callerIdTimeoutMs',
      'budgetMs',
      'waitForJobMs',
    ],
  },
);
