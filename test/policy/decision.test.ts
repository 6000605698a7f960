import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Job, nameOfJob } from '../../src/jobs/job.js';
import type { AdoptDecision, AdoptionDecision, AdoptionReport } from '../../src/policy/answer.js';
import { decideAdoption, decideAfterAdoption } from '../../src/policy/decision.js';
import type { AdoptionFacts, AdoptionRequest, Fact, NamedJob } from '../../src/policy/facts.js';
import { afterWaiting, saidOf, withEnding, withExcluded } from '../../src/policy/facts.js';
import type { AdoptionOptions } from '../../src/policy/options.js';
import { defaultOptions } from '../../src/policy/options.js';
import { anyOptions } from '../support/any-options.js';
import { alice, bob, job } from '../support/sample-jobs.js';

const login: AdoptionRequest = { uid: alice, user: 'alice', service: 'sshd' };
const v1: AdoptionFacts = { node: { known: { isSlurmNode: true, nodeName: 'vm', cgroupVersion: 1 } } };
const v2: AdoptionFacts = { node: { known: { isSlurmNode: true, nodeName: 'vm', cgroupVersion: 2 } } };
const four = job(4, { socket: 100 });
const five = job(5, { socket: 200 });
const two: AdoptionFacts = { ...v1, jobs: { known: [five, four] } };
const untold: AdoptionFacts = { ...two, callerId: { known: 'none' }, stepds: { known: 'asked' } };
const waited = { waitedMs: 3000 };

function decide(facts: AdoptionFacts, options: Partial<AdoptionOptions> = {}, request = login): AdoptionDecision {
  return decideAdoption(request, facts, { ...defaultOptions, ...options });
}

const named = (jobId: number): Fact<NamedJob> => ({ known: { jobId } });
const into = (jobId: number) => ({ action: 'adopt', target: { kind: 'job', jobId } });

describe('decideAdoption() before it asks anything', () => {
  it('ignores the sessions of another PAM service', () => {
    const request = { ...login, service: 'cron\n' };
    expect(decide({}, {}, request)).toMatchObject({
      action: 'ignore',
      rule: 'service',
      reason: 'Sessions of "cron\\n" are not adopted, only those of "sshd"',
    });
    expect(decide({}, { service: '*' }, request)).toMatchObject({ action: 'ask', fact: 'node' });
    expect(decide({}, { service: 'SSHD' })).toMatchObject({ action: 'ignore', rule: 'service' });
  });

  it('does not look at the service of what is no PAM login', () => {
    expect(decide({}, {}, { uid: alice })).toMatchObject({ action: 'ask', fact: 'node' });
  });

  it('ignores root, and adopts it with ignore_root=0', () => {
    const root = { ...login, uid: 0 };
    expect(decide({}, {}, root)).toMatchObject({ action: 'ignore', rule: 'root' });
    const facts: AdoptionFacts = { ...v1, jobs: { known: [job(7, { uid: 0 })] } };
    expect(decide(facts, { ignoreRoot: false }, root)).toMatchObject({ ...into(7), rule: 'single-job' });
    expect(decide({ ...v1, jobs: { known: [] }, ...waited }, { ignoreRoot: false }, root)).toMatchObject({
      action: 'deny',
    });
  });
});

describe('decideAdoption() on a node that it cannot use', () => {
  const unusable: readonly (readonly [AdoptionFacts, string, string])[] = [
    [{ node: { unknown: 'no NodeName' } }, 'node-unknown', 'Cannot tell which node this is: no NodeName'],
    [
      { node: { known: { isSlurmNode: true, nodeName: '', cgroupVersion: 1 } } },
      'node-unknown',
      'Cannot tell which node this is: its name is empty',
    ],
    [{ node: { known: { isSlurmNode: false } } }, 'not-slurm', 'This is not a Slurm node'],
    [{ node: { known: { isSlurmNode: false, why: 'no spool' } } }, 'not-slurm', 'This is not a Slurm node: no spool'],
    [{ ...v1, jobs: { unknown: 'EIO' } }, 'jobs-unknown', 'Cannot tell which jobs are on this node: EIO'],
    [
      { ...v2, jobs: { known: [job(4, { uid: 'unknown' })] }, ...waited },
      'jobs-unknown',
      'Cannot tell whether you have a job on this node: the owner of job 4 is unknown',
    ],
  ];

  it.each(['starting', 'deserted'] as const)('does not count a job of an unknown owner that is %s', (state) => {
    const first = state === 'starting' ? { action: 'wait' } : { action: 'ask', fact: 'prolog' };
    const states = [{ job: { jobId: 4 }, state }];
    const facts: AdoptionFacts = { ...v2, jobs: { known: [job(4, { uid: 'unknown' })] }, states };
    expect(decide(facts)).toMatchObject(first); // its slurmstepd is to come
    expect(decide({ ...facts, ...waited })).toMatchObject({ action: 'deny', rule: 'no-jobs' });
    const other = { ...facts, jobs: { known: [job(4, { uid: 'unknown' }), job(5, { uid: 'unknown' })] }, ...waited };
    expect(decide(other)).toMatchObject({ action: 'ignore', rule: 'jobs-unknown' });
  });

  it.each(unusable)('%j is a generic failure, never "no jobs"', (facts, rule, reason) => {
    for (const actionGenericFailure of ['ignore', 'allow', 'deny'] as const) {
      expect(decide(facts, { actionGenericFailure })).toMatchObject({ action: actionGenericFailure, rule, reason });
    }
  });
});

describe('decideAdoption() without a job', () => {
  const none: AdoptionFacts = { ...v1, jobs: { known: [] } };
  const coming: AdoptionFacts = { ...none, prolog: { known: 'runs' } };
  const refused = { action: 'deny', rule: 'no-jobs', reason: 'You have no active jobs on this node' };

  it('waits while a Prolog runs for the user, for what is left of wait_for_job, and not beyond the budget', () => {
    expect(decide(none)).toMatchObject({ action: 'ask', fact: 'prolog' });
    expect(decide(coming)).toMatchObject({ action: 'wait', for: 'jobs', forMs: 3000 });
    expect(decide({ ...coming, waitedMs: 2900 })).toMatchObject({ action: 'wait', forMs: 100 });
    expect(decide(coming, { budgetMs: 1000 })).toMatchObject({ action: 'wait', forMs: 1000 });
    expect(afterWaiting(coming, 100)).toEqual({ ...v1, prolog: { known: 'runs' }, waitedMs: 100 });
  });

  it('waits no longer than slurmstepd takes to start without a sign of a job, nor for what it cannot tell', () => {
    const seen: AdoptionFacts = { ...none, prolog: { known: 'none' } };
    // As long as a slurmstepd may be starting, which nothing shows.
    expect(decide(seen)).toMatchObject({ action: 'wait', forMs: 300 });
    expect(decide({ ...seen, waitedMs: 100 })).toMatchObject({ action: 'wait', forMs: 200 });
    expect(decide(seen, { waitForJobMs: 50 })).toMatchObject({ action: 'wait', forMs: 50 });
    expect(decide({ ...seen, waitedMs: 300 })).toMatchObject(refused);
    const blind = decide({ ...none, prolog: { unknown: 'EMFILE' }, waitedMs: 300 });
    expect(blind).toMatchObject(refused);
    expect(blind.trace).toContain('it is unknown whether a job is just starting: EMFILE');
  });

  it('refuses after the wait, or at once with wait_for_job=0', () => {
    expect(decide({ ...coming, ...waited })).toMatchObject(refused);
    expect(decide(none, { waitForJobMs: 0 })).toMatchObject(refused);
    expect(decide({ ...none, waitedMs: Number.NaN })).toMatchObject(refused);
  });

  it('ignores with action_no_jobs=ignore', () => {
    expect(decide({ ...none, ...waited }, { actionNoJobs: 'ignore' })).toMatchObject({
      action: 'ignore',
      rule: 'no-jobs',
    });
  });

  it('tells a job that is starting from one that is ending', () => {
    const facts: AdoptionFacts = { ...v1, jobs: { known: [four] } };
    const starting: AdoptionFacts = { ...facts, states: [{ job: four, state: 'starting' }] };
    const ending: AdoptionFacts = { ...facts, states: [{ job: four, state: 'ending' }] };
    expect(decide(starting)).toMatchObject({ action: 'wait' });
    expect(decide({ ...starting, ...waited })).toMatchObject({
      action: 'deny',
      rule: 'starting',
      reason: 'You have no running job on this node yet, still starting: job 4',
    });
    expect(decide({ ...ending, ...waited })).toMatchObject({
      action: 'deny',
      rule: 'ending',
      reason: 'You have no running job on this node any more, ending: job 4',
    });
  });

  it('never takes a job of another user', () => {
    expect(decide({ ...v1, jobs: { known: [job(4, { uid: bob })] }, ...waited })).toMatchObject({
      action: 'deny',
      rule: 'no-jobs',
    });
  });
});

describe('decideAdoption() with one job', () => {
  const one: AdoptionFacts = { ...v1, jobs: { known: [four] } };

  it('adopts into it without asking for a fact', () => {
    expect(decide(one, { actionUnknown: 'deny', prefer: true })).toEqual({
      action: 'adopt',
      rule: 'single-job',
      target: { kind: 'job', jobId: 4, job: four },
      reason: 'The session goes into job 4: it is the only job of this user here',
      trace: [
        'uid 1001 ("alice") has 1 job here: job 4',
        'adopt: The session goes into job 4: it is the only job of this user here',
      ],
    });
  });

  it('asks caller ID with single_job_skip_rpc=0, and adopts into the job all the same', () => {
    const options: Partial<AdoptionOptions> = { singleJobSkipRpc: false, prefer: true, actionUnknown: 'deny' };
    expect(decide(one, options)).toMatchObject({ action: 'ask', fact: 'callerId' });
    expect(decide({ ...one, callerId: named(9) }, options)).toMatchObject({ ...into(4), rule: 'single-job' });
    expect(decide({ ...one, callerId: named(4) }, options)).toMatchObject({ ...into(4), rule: 'caller-id' });
  });

  it('adopts into a job that is known by its SLUID only', () => {
    const bySluid = job(undefined, { sluid: 's9BNM865MKYJ00', socket: 1 });
    const decision = decide({ ...v2, jobs: { known: [bySluid] } });
    expect(decision).toMatchObject({ action: 'adopt', target: { kind: 'job', job: bySluid } });
    expect(decision.reason).toContain('job s9BNM865MKYJ00');
  });

  it('does not count a job that is still starting', () => {
    const facts: AdoptionFacts = { ...two, states: [{ job: { jobId: 5 }, state: 'starting' }] };
    expect(decide(facts)).toMatchObject({ ...into(4), rule: 'single-job' });
  });
});

describe('decideAdoption() with several jobs', () => {
  it('asks caller ID before it ranks', () => {
    expect(decide(two)).toMatchObject({ action: 'ask', fact: 'callerId' });
  });

  it('adopts into the job that caller ID names', () => {
    expect(decide({ ...two, callerId: named(4) }, { actionUnknown: 'deny' })).toMatchObject({
      ...into(4),
      rule: 'caller-id',
    });
  });

  it.each([
    [{ known: 'none' }, 'caller ID named no job'],
    [{ unknown: 'no slurmd at 10.0.0.9' }, 'caller ID is unknown: no slurmd at 10.0.0.9'],
    [named(100), 'caller ID named job 100: it belongs to another user'],
    [named(101), 'caller ID named job 101: its owner is unknown'],
    [named(6), 'caller ID named job 6: the user has no such job on this node'],
    [{ known: { jobId: 1, uid: 1002 } }, 'caller ID named job 1: it belongs to uid 1002'],
    [named(3), 'caller ID named job 3: it is ending'],
  ] as const)('goes on to the next rule when caller ID says %j', (callerId, line) => {
    const jobs = [job(3), four, five, job(100, { uid: bob }), job(101, { uid: 'unknown' })];
    const facts: AdoptionFacts = {
      ...v1,
      jobs: { known: jobs },
      states: [{ job: { jobId: 3 }, state: 'ending' }],
      callerId,
    };
    const decision = decide(facts);
    expect(decision).toMatchObject({ ...into(5), rule: 'newest' });
    expect(decision.trace).toContain(line);
  });

  it('waits for a job that caller ID names and that is still starting, then goes on', () => {
    const facts: AdoptionFacts = {
      ...v1,
      jobs: { known: [four, five, job(6)] },
      states: [{ job: { jobId: 6 }, state: 'starting' }],
      callerId: named(6),
    };
    expect(decide(facts)).toMatchObject({ action: 'wait', forMs: 3000 });
    expect(decide({ ...facts, ...waited })).toMatchObject({ ...into(5), rule: 'newest' });
  });

  it('does not ask caller ID with callerid_timeout=0', () => {
    const decision = decide(two, { callerIdTimeoutMs: 0 });
    expect(decision).toMatchObject(into(5));
    expect(decision.trace).toContain('caller ID is not asked (callerid_timeout=0)');
  });

  it("asks for the user's choice after caller ID, with prefer=1 only", () => {
    expect(decide(untold)).toMatchObject(into(5));
    expect(decide(untold, { prefer: true })).toMatchObject({ action: 'ask', fact: 'preference' });
    expect(decide({ ...two, callerId: named(5), preference: named(4) }, { prefer: true })).toMatchObject(into(5));
  });

  it("takes the user's choice under action_unknown=deny too, as long as its job is here", () => {
    const strict: Partial<AdoptionOptions> = { prefer: true, actionUnknown: 'deny' };
    expect(decide({ ...untold, preference: named(4) }, strict)).toMatchObject({ ...into(4), rule: 'preference' });
    const refused = decide({ ...untold, preference: named(3) }, strict);
    expect(refused).toMatchObject({ action: 'deny', rule: 'source-unknown' });
    expect(refused.trace).toContain("the user's choice named job 3: the user has no such job on this node");
  });

  it('answers as action_unknown says', () => {
    const reason = 'You have 2 jobs on this node, and it is unknown which of them this session comes from';
    expect(decide(untold, { actionUnknown: 'allow' })).toMatchObject({ action: 'allow', rule: 'source-unknown' });
    expect(decide(untold, { actionUnknown: 'deny' })).toMatchObject({ action: 'deny', rule: 'source-unknown', reason });
    expect(decide(untold, { actionUnknown: 'newest' })).toMatchObject({ ...into(5), rule: 'newest' });
  });

  it.each(['allow', 'deny', 'user'] as const)(
    'counts with action_unknown=%s only jobs that accept sessions, as far as their slurmstepds say',
    (actionUnknown) => {
      const { stepds: _, ...unasked } = untold;
      const stepds = { known: 'asked' } as const;
      expect(decide(unasked)).toMatchObject({ ...into(5), rule: 'newest' });
      expect(decide(unasked, { actionUnknown })).toMatchObject({ action: 'ask', fact: 'stepds' });
      const told = { ...withEnding(unasked, { jobId: 5 }), stepds };
      expect(decide(told, { actionUnknown })).toMatchObject({ ...into(4), rule: 'single-job' });
      const none = decide({ ...withEnding(told, { jobId: 4 }), ...waited }, { actionUnknown });
      expect(none).toMatchObject({ action: 'deny', rule: 'ending' });
      const silent = decide({ ...unasked, stepds: { unknown: 'EMFILE' } }, { actionUnknown });
      expect(silent).toMatchObject({ rule: actionUnknown === 'user' ? 'user' : 'source-unknown' });
      expect(silent.trace).toContain('it is unknown which of these jobs accept a session: EMFILE');
    },
  );

  it("puts the session into the user's own cgroup with action_unknown=user, on v1 only", () => {
    const user: Partial<AdoptionOptions> = { actionUnknown: 'user' };
    expect(decide(untold, user)).toMatchObject({ action: 'adopt', rule: 'user', target: { kind: 'user', uid: alice } });
    expect(decide({ ...untold, ...v2 }, user)).toMatchObject({ action: 'ignore', rule: 'user' });
  });

  it('ranks as the option rank says', () => {
    const facts: AdoptionFacts = {
      ...untold,
      jobs: { known: [job(4, { socket: 9, extern: { memory: 1 } }), job(5, { socket: 0, extern: { memory: 2 } })] },
    };
    expect(decide(facts, { rank: 'newest' })).toMatchObject(into(4));
    expect(decide(facts, { rank: 'step-extern-mtime' })).toMatchObject(into(5));
  });

  it('leaves a trace that reads like a log', () => {
    expect(decide(untold).trace).toEqual([
      'uid 1001 ("alice") has 2 jobs here: job 4, job 5',
      'caller ID named no job',
      'the source job is unknown: action_unknown=newest',
      'newest by the earliest sign of its extern step: job 5, 100 s after job 4',
      'adopt: The session goes into job 5: it is the newest job of this user here',
    ]);
  });
});

describe('decideAdoption() with a suspended job', () => {
  const frozen: AdoptionFacts = { ...untold, states: [{ job: { jobId: 5 }, state: 'suspended' }] };

  it('refuses and names it', () => {
    expect(decide(frozen)).toMatchObject({
      action: 'deny',
      rule: 'suspended',
      reason: 'Your job 5 on this node is suspended',
    });
  });

  it('lets in unadopted with action_suspended=allow', () => {
    expect(decide(frozen, { actionSuspended: 'allow' })).toMatchObject({ action: 'allow', rule: 'suspended' });
  });

  it('takes the next with action_suspended=next, and refuses where there is none', () => {
    expect(decide(frozen, { actionSuspended: 'next' })).toMatchObject({ ...into(4), rule: 'newest' });
    expect(
      decide(
        { ...frozen, states: [five, four].map((one) => ({ job: one, state: 'suspended' }) as const) },
        { actionSuspended: 'next' },
      ),
    ).toMatchObject({
      action: 'deny',
      rule: 'suspended',
      reason: 'All your jobs on this node are suspended: job 4, job 5',
    });
  });

  it('does not let action_suspended=next reach a job that action_unknown forbids', () => {
    const facts: AdoptionFacts = { ...frozen, callerId: named(5) };
    expect(decide(facts, { actionSuspended: 'next', actionUnknown: 'deny' })).toMatchObject({
      action: 'deny',
      rule: 'source-unknown',
    });
  });

  it('does not care about a suspended job that is not chosen', () => {
    expect(decide({ ...untold, states: [{ job: { jobId: 4 }, state: 'suspended' }] })).toMatchObject(into(5));
  });

  it('comes to an end with thousands of them', () => {
    const jobs = Array.from({ length: 3000 }, (_, index) => job(index + 1, { socket: index }));
    const states = jobs.slice(1).map((one) => ({ job: one, state: 'suspended' }) as const);
    expect(decide({ ...untold, jobs: { known: jobs }, states }, { actionSuspended: 'next' })).toMatchObject(into(1));
  });
});

describe('decideAdoption() with a job that the request names', () => {
  const wants = (jobId: number, uid: number = alice): AdoptionRequest => ({ uid, jobId });
  const jobs = [four, five, job(6, { uid: bob }), { ...job(7, { uid: 'unknown' }), unknownWhy: 'it is silent' }];
  const facts: AdoptionFacts = { jobs: { known: jobs } };
  const refused = (rule: string, reason: string) => ({ action: 'deny', rule, reason });

  it('asks for the jobs alone, and adopts into that one though it is not the newest', () => {
    expect(decide({}, {}, wants(4))).toMatchObject({ action: 'ask', fact: 'jobs' });
    expect(decide(facts, { actionUnknown: 'deny' }, wants(4))).toEqual({
      action: 'adopt',
      rule: 'named',
      target: { kind: 'job', jobId: 4, job: four },
      reason: 'The session goes into job 4: it was named',
      trace: [
        'uid 1001 has 2 jobs here: job 4, job 5; of another user, ignored: job 6; of an unknown owner, ignored: job 7 (it is silent)',
        'adopt: The session goes into job 4: it was named',
      ],
    });
  });

  it('adopts root too, whatever ignore_root says', () => {
    const rootJob = { jobs: { known: [job(4, { uid: 0 })] } };
    expect(decide(rootJob, {}, wants(4, 0))).toMatchObject({ ...into(4), rule: 'named' });
  });

  it.each([
    [6, 'no-such-job', 'Job 6 belongs to uid 1002, not to uid 1001'],
    [7, 'jobs-unknown', 'The owner of job 7 is unknown: it is silent'],
    [8, 'no-such-job', 'uid 1001 has no job 8 on this node'],
  ])('refuses job %i: %s', (jobId, rule, reason) => {
    const lenient: Partial<AdoptionOptions> = { actionNoJobs: 'ignore', actionGenericFailure: 'allow' };
    expect(decide(facts, lenient, wants(jobId))).toMatchObject(refused(rule, reason));
  });

  it('says that a directory named by SLUID can be that job', () => {
    const bySluid = { ...job(undefined, { sluid: 's9BNM865MKYJ00' }), unknownWhy: 'it is silent' };
    expect(decide({ jobs: { known: [four, bySluid] } }, {}, wants(8))).toMatchObject(
      refused(
        'no-such-job',
        'uid 1001 has no job 8 on this node, as far as is known: the job id of job s9BNM865MKYJ00 is unknown (it is silent)',
      ),
    );
  });

  it('refuses where the jobs cannot be read', () => {
    expect(decide({ jobs: { unknown: 'EIO' } }, { actionGenericFailure: 'allow' }, wants(4))).toMatchObject(
      refused('jobs-unknown', 'Cannot tell which jobs are on this node: EIO'),
    );
  });

  it('waits while it is starting, and refuses it then', () => {
    const starting: AdoptionFacts = { ...facts, states: [{ job: four, state: 'starting' }] };
    expect(decide(starting, {}, wants(4))).toMatchObject({ action: 'wait', for: 'jobs', forMs: 3000 });
    const why = 'it has no extern step yet (PrologFlags=Contain of slurm.conf makes one)';
    expect(decide({ ...starting, ...waited }, {}, wants(4))).toMatchObject(
      refused('starting', `Job 4 cannot be adopted into: ${why}`),
    );
  });

  it('refuses it where it is ending', () => {
    expect(decide(withEnding(facts, { jobId: 4 }), {}, wants(4))).toMatchObject(
      refused('ending', 'Job 4 accepts no session any more: it is ending'),
    );
  });

  it('answers as action_suspended says where it is suspended, and takes no other', () => {
    const frozen: AdoptionFacts = { ...facts, states: [{ job: four, state: 'suspended' }] };
    const reason = 'Your job 4 on this node is suspended';
    expect(decide(frozen, {}, wants(4))).toMatchObject(refused('suspended', reason));
    expect(decide(frozen, { actionSuspended: 'next' }, wants(4))).toMatchObject(refused('suspended', reason));
    expect(decide(frozen, { actionSuspended: 'allow' }, wants(4))).toMatchObject({
      action: 'allow',
      rule: 'suspended',
    });
    expect(decide(frozen, {}, wants(5))).toMatchObject({ ...into(5), rule: 'named' });
  });

  it('refuses a failed adoption, whatever action_adopt_failure says, and tries no other job', () => {
    const decision = decide(facts, {}, wants(4));
    if (decision.action !== 'adopt') throw new Error(decision.reason);
    const answerAfter = (outcome: AdoptionReport['outcome'], options: Partial<AdoptionOptions> = {}) =>
      decideAfterAdoption(decision, { outcome, reason: 'gone' }, { ...defaultOptions, ...options });
    const failed = refused('adopt-failure', 'The session could not be put into job 4: gone');
    for (const outcome of ['untouched', 'undone', 'partial'] as const)
      expect(answerAfter(outcome, { actionAdoptFailure: 'allow' })).toMatchObject(failed);
    expect(answerAfter('suspended', { actionSuspended: 'next' })).toMatchObject({ action: 'deny', rule: 'suspended' });
    expect(answerAfter('adopted')).toMatchObject({ action: 'allow', rule: 'named', reason: 'The session is in job 4' });
    const tried = withExcluded(facts, [{ job: four, why: 'failed', detail: 'gone' }]);
    expect(decide(tried, { actionAdoptFailure: 'allow' }, wants(4))).toMatchObject(failed);
  });
});

describe('decideAdoption() with mode=observe', () => {
  it('asks and waits as usual, answers ignore, and keeps what it would have done', () => {
    const observe: Partial<AdoptionOptions> = { mode: 'observe' };
    expect(decide({}, observe)).toMatchObject({ action: 'ask' });
    expect(decide({ ...v1, jobs: { known: [] } }, observe)).toMatchObject({ action: 'ask', fact: 'prolog' });
    expect(decide({ ...v1, jobs: { known: [] }, prolog: { known: 'runs' } }, observe).action).toBe('wait');
    expect(decide(untold, observe)).toMatchObject({ action: 'ignore', rule: 'newest', would: into(5) });
    expect(decide({ ...v1, jobs: { known: [] }, ...waited }, observe)).toMatchObject({
      action: 'ignore',
      would: { action: 'deny' },
    });
  });
});

describe('decideAfterAdoption()', () => {
  function adopting(facts: AdoptionFacts, options: Partial<AdoptionOptions> = {}): AdoptDecision {
    const decision = decide(facts, options);
    if (decision.action !== 'adopt') throw new Error(decision.reason);
    return decision;
  }
  const answerTo = (decision: AdoptDecision, result: AdoptionReport, options: Partial<AdoptionOptions> = {}) =>
    decideAfterAdoption(decision, result, { ...defaultOptions, ...options });

  it('lets an adopted session in', () => {
    expect(answerTo(adopting(untold), { outcome: 'adopted' })).toMatchObject({
      action: 'allow',
      rule: 'newest',
      outcome: 'adopted',
      reason: 'The session is in job 5',
    });
  });

  it.each(['untouched', 'undone', 'partial'] as const)('answers %s as action_adopt_failure says', (outcome) => {
    const result = { outcome, reason: 'Cannot write "/sys/fs/cgroup/cpuset/x/cgroup.procs"' };
    expect(answerTo(adopting(untold), result)).toMatchObject({ action: 'allow', rule: 'adopt-failure', outcome });
    expect(answerTo(adopting(untold), result, { actionAdoptFailure: 'deny' })).toMatchObject({
      action: 'deny',
      rule: 'adopt-failure',
      reason: 'The session could not be put into job 5: Cannot write "/sys/fs/cgroup/cpuset/x/cgroup.procs"',
    });
  });

  it('answers suspended as action_suspended says', () => {
    const result = { outcome: 'suspended' } as const;
    expect(answerTo(adopting(untold), result)).toMatchObject({
      action: 'deny',
      reason: 'Your job 5 on this node is suspended',
    });
    expect(answerTo(adopting(untold), result, { actionSuspended: 'allow' })).toMatchObject({
      action: 'allow',
      rule: 'suspended',
    });
    const next = answerTo(adopting(untold), result, { actionSuspended: 'next' });
    expect(next).toMatchObject({ action: 'next', exclude: { job: five, why: 'suspended' } });
    if (next.action === 'next') expect(decide(withExcluded(untold, [next.exclude]))).toMatchObject(into(4));
  });

  it("has no next for a suspended cgroup of the user's own", () => {
    const decision = adopting(untold, { actionUnknown: 'user' });
    expect(answerTo(decision, { outcome: 'suspended' }, { actionSuspended: 'next' })).toMatchObject({
      action: 'deny',
      rule: 'suspended',
    });
  });

  it('goes on to the next rule after the job that caller ID named, if nothing was left behind', () => {
    const facts: AdoptionFacts = { ...untold, callerId: named(4) };
    const next = answerTo(adopting(facts), { outcome: 'undone', reason: 'the step is ending' });
    expect(next).toMatchObject({ action: 'next', exclude: { job: four, why: 'failed', detail: 'the step is ending' } });
    expect(answerTo(adopting(facts), { outcome: 'partial' })).toMatchObject({ action: 'allow', outcome: 'partial' });
    if (next.action !== 'next') return;
    const again = withExcluded(facts, [next.exclude]);
    expect(decide(again)).toMatchObject({ ...into(5), rule: 'newest' });
    expect(decide(again, { actionUnknown: 'deny' })).toMatchObject({ action: 'deny', rule: 'source-unknown' });
  });

  it('comes to action_adopt_failure when no other job is left', () => {
    const facts = withExcluded({ ...v1, jobs: { known: [four] } }, [{ job: four, why: 'failed', detail: 'gone' }]);
    expect(decide(facts)).toMatchObject({ action: 'allow', rule: 'adopt-failure' });
    expect(decide(facts, { actionAdoptFailure: 'deny' })).toMatchObject({
      action: 'deny',
      reason: 'The session could not be put into job 4: gone',
    });
  });

  it('only observes with mode=observe', () => {
    expect(answerTo(adopting(untold), { outcome: 'undone' }, { mode: 'observe' })).toMatchObject({
      action: 'ignore',
      would: { action: 'allow' },
    });
  });
});

describe('what a user is told', () => {
  it('is different for each reason to refuse', () => {
    const deny: Partial<AdoptionOptions> = { actionGenericFailure: 'deny', actionUnknown: 'deny' };
    const one: AdoptionFacts = { ...v1, jobs: { known: [four] }, ...waited };
    const refusals = [
      decide({ node: { known: { isSlurmNode: false } } }, deny),
      decide({ ...v1, jobs: { known: [] }, ...waited }, deny),
      decide({ ...one, states: [{ job: four, state: 'starting' }] }, deny),
      decide({ ...one, states: [{ job: four, state: 'ending' }] }, deny),
      decide({ ...one, states: [{ job: four, state: 'suspended' }] }, deny),
      decide(untold, deny),
    ];
    expect(refusals.map(({ action }) => action)).toEqual(refusals.map(() => 'deny'));
    expect(new Set(refusals.map(({ reason }) => reason)).size).toBe(refusals.length);
  });
});

const reason = fc.constantFrom('EIO', 'a deadline passed');
function fact<T>(known: fc.Arbitrary<T>): fc.Arbitrary<Fact<T>> {
  return fc.oneof(
    { weight: 4, arbitrary: fc.record({ known }) },
    { weight: 1, arbitrary: fc.record({ unknown: reason }) },
  );
}
const anyJob: fc.Arbitrary<Job> = fc
  .record({
    id: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
    uid: fc.constantFrom(alice, alice, alice, bob, 0, 'unknown' as const),
    sluid: fc.constantFrom('s1', 's2', 's3'),
    socket: fc.integer({ min: 1, max: 3 }),
    ticks: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ id, uid, sluid, socket, ticks }) => job(id, { uid, socket, ticks, ...(id === undefined ? { sluid } : {}) }));
const anyJobs = fact(fc.uniqueArray(anyJob, { selector: nameOfJob, maxLength: 5 }));
const anyRef = fc.oneof(
  fc.record({ jobId: fc.integer({ min: 1, max: 6 }) }),
  fc.record({ sluid: fc.constantFrom('s1', 's2', 's3') }),
  fc.constant({}),
);
const anyName: fc.Arbitrary<NamedJob> = fc.oneof(
  fc.record({ jobId: fc.integer({ min: 1, max: 7 }) }),
  fc.constant('none' as const),
);
const anyStates = fc.array(
  fc.record({ job: anyRef, state: fc.constantFrom('starting', 'ending', 'deserted', 'suspended') }),
  {
    maxLength: 4,
  },
);
const anyFacts: fc.Arbitrary<AdoptionFacts> = fc.record(
  {
    node: fact(
      fc.oneof(
        fc.record({
          isSlurmNode: fc.constant(true as const),
          nodeName: fc.constantFrom('vm', 'vm', ''),
          cgroupVersion: fc.constantFrom(1, 2),
        }),
        fc.record({ isSlurmNode: fc.constant(false as const) }),
      ),
    ),
    jobs: anyJobs,
    prolog: fact(fc.constantFrom('runs', 'none')),
    callerId: fact(anyName),
    preference: fact(anyName),
    states: anyStates,
    excluded: fc.array(fc.record({ job: anyRef, why: fc.constantFrom('suspended', 'failed'), detail: reason }), {
      maxLength: 3,
    }),
    waitedMs: fc.oneof(fc.integer({ min: -10, max: 200_000 }), fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY)),
  },
  { requiredKeys: [] },
);
const anyRequest: fc.Arbitrary<AdoptionRequest> = fc.record(
  {
    uid: fc.constantFrom(alice, alice, alice, 0),
    user: fc.string(),
    service: fc.constantFrom('sshd', 'login'),
    jobId: fc.integer({ min: 1, max: 7 }),
  },
  { requiredKeys: ['uid'] },
);

describe('decideAdoption() on any facts and options', () => {
  it('gives an action, a reason and a trace of single lines, never a throw, and the same for the same', () => {
    fc.assert(
      fc.property(anyRequest, anyFacts, anyOptions, (request, facts, options) => {
        const decision = decideAdoption(request, facts, options);
        expect(['adopt', 'allow', 'ignore', 'deny', 'ask', 'wait']).toContain(decision.action);
        for (const line of [decision.reason, ...decision.trace]) expect(line).toMatch(/^\P{Cc}+$/u);
        expect(decideAdoption(request, facts, options)).toEqual(decision);
      }),
      { numRuns: 2000 },
    );
  });

  it('does not depend on the order in which the jobs are listed', () => {
    fc.assert(
      fc.property(anyRequest, anyFacts, anyOptions, (request, facts, options) => {
        if (facts.jobs === undefined || 'unknown' in facts.jobs) return;
        const reversed: AdoptionFacts = { ...facts, jobs: { known: facts.jobs.known.toReversed() } };
        expect(decideAdoption(request, reversed, options)).toEqual(decideAdoption(request, facts, options));
      }),
      { numRuns: 500 },
    );
  });

  it('adopts only into a job of that uid that is here, runs and was not tried', () => {
    fc.assert(
      fc.property(anyRequest, anyFacts, anyOptions, (request, facts, options) => {
        const decision = decideAdoption(request, facts, options);
        if (decision.action !== 'adopt' || decision.target.kind === 'user') return;
        const { job: chosen } = decision.target;
        expect(facts.jobs !== undefined && 'known' in facts.jobs && facts.jobs.known.includes(chosen)).toBe(true);
        expect(chosen.uid).toBe(request.uid);
        expect(saidOf(facts.excluded)(chosen)).toBeUndefined();
        expect(saidOf(facts.states)(chosen)).toBeUndefined();
      }),
      { numRuns: 2000 },
    );
  });

  it('asks only for what was not asked, and adopts nothing with mode=observe', () => {
    fc.assert(
      fc.property(anyRequest, anyFacts, anyOptions, (request, facts, options) => {
        const decision = decideAdoption(request, facts, options);
        if (decision.action === 'ask') expect(facts[decision.fact]).toBeUndefined();
        if (options.mode === 'observe') expect(decision.action).not.toBe('adopt');
      }),
      { numRuns: 1000 },
    );
  });

  it('comes to an end: asking, waiting, adopting and deciding again', () => {
    const world = fc.record({
      node: fact(
        fc.record({
          isSlurmNode: fc.constant(true as const),
          nodeName: fc.constant('vm'),
          cgroupVersion: fc.constantFrom(1, 2),
        }),
      ),
      // What is found each time the jobs are asked for, and how each adoption goes, over and over.
      jobs: fc.array(anyJobs, { minLength: 1, maxLength: 3 }),
      prolog: fact(fc.constantFrom('runs' as const, 'none' as const)),
      callerId: fact(anyName),
      preference: fact(anyName),
      stepds: fact(fc.constant('asked' as const)),
      states: anyStates,
      outcomes: fc.array(fc.constantFrom('adopted', 'untouched', 'undone', 'partial', 'suspended'), { minLength: 1 }),
      // The part of a wait after which the jobs are asked for again.
      part: fc.constantFrom(1, 2, 5),
    });
    fc.assert(
      fc.property(anyRequest, world, anyOptions, (request, found, options) => {
        let facts: AdoptionFacts = { states: found.states };
        let [asked, tried] = [0, 0];
        const longest = Math.min(options.waitForJobMs, options.budgetMs);
        for (let round = 0; round < 60; round++) {
          const decision = decideAdoption(request, facts, options);
          if (decision.action === 'wait') {
            facts = { ...afterWaiting(facts, Math.ceil(longest / found.part)), states: found.states };
          } else if (decision.action === 'ask') {
            const jobs = found.jobs[asked++ % found.jobs.length];
            facts = { ...facts, [decision.fact]: decision.fact === 'jobs' ? jobs : found[decision.fact] };
          } else if (decision.action === 'adopt') {
            const outcome = found.outcomes[tried++ % found.outcomes.length] ?? 'adopted';
            const answer = decideAfterAdoption(decision, { outcome }, options);
            if (answer.action !== 'next') return;
            facts = withExcluded(facts, [answer.exclude]);
          } else {
            return;
          }
        }
        expect.fail('no end after 60 rounds');
      }),
      { numRuns: 1000 },
    );
  });
});
