// The public names of the library, one by one. What a name promises is said where it is made.

export {
  type AdoptOptions,
  adopt,
  type UserTarget,
} from './adopt/adoption.js';
export type { EvidenceRequest } from './adopt/evidence.js';
export type {
  AdoptionRecord,
  RecordedAdoption,
  RecordedDecision,
  RecordedError,
  RecordedTarget,
  Stage,
} from './adopt/record.js';
export type { AdoptionOutcome, AdoptionResult } from './adopt/result.js';
export {
  admitSession,
  decideSession,
  type SessionDecision,
  type SessionOptions,
  type SessionRequest,
} from './adopt/session.js';
export { Cgroup, type CgroupBelow, type LookOptions } from './cgroup/cgroup.js';
export { CgroupSet, type Seen, type SetMember } from './cgroup/cgroup-set.js';
export type { FreezeOptions } from './cgroup/freezer.js';
export {
  type DiscoverHierarchiesOptions,
  discoverHierarchies,
  type Hierarchies,
  type Hierarchy,
} from './cgroup/hierarchies.js';
export type { KillOptions, KillReport, Member } from './cgroup/killing.js';
export type { Limits } from './cgroup/limits.js';
export { type Membership, parseProcCgroup } from './cgroup/membership.js';
export { type CgroupMount, parseMountInfo } from './cgroup/mounts.js';
export type { HierarchyMove, MoveOutcome } from './cgroup/move.js';
export { type CgroupPath, cgroupPath } from './cgroup/path.js';
export type { ProcessIdentity } from './cgroup/process.js';
export type { Removal, RemovalOptions } from './cgroup/removal.js';
export type { HierarchyUsage, KernelFigure, Usage } from './cgroup/usage.js';
export { type CleanOptions, cleanJob } from './cleanup/ending.js';
export type { CleanReport, EndedProcess, SparedProcess, Survivor } from './cleanup/report.js';
export { type FindStraysOptions, findStrays, type Stray, type StraysReport } from './cleanup/strays/find.js';
export { findOutside, type OutsideProcess, type OutsideReport } from './cleanup/strays/outside.js';
export type { SourceLine } from './jobs/config/place.js';
export type { NodeEntry, SlurmConfiguration } from './jobs/config/read.js';
export type { SlurmdProcess } from './jobs/config/slurmd.js';
export { type DiscoverJobsOptions, discoverJobs } from './jobs/discovery.js';
export type { ExternCgroup, ExternStep, Job, JobCgroup, OwnedJob, OwnerSource, Step } from './jobs/job.js';
export { formatJobPath, type JobName, type JobPlace, parseJobPath, type SlurmTop } from './jobs/layout.js';
export { type LocatedTop, type ReadNodeOptions, readNode, type SlurmNode } from './jobs/node.js';
export { type FindOwnersOptions, findOwners } from './jobs/owners/find.js';
export {
  type JobLimits,
  type JobProcess,
  type JobUsage,
  limitsOf,
  type OfJobOptions,
  type ProcessSeen,
  processesOf,
  type SeenIn,
  type StepLimits,
  type StepUsage,
  usageOf,
} from './jobs/processes.js';
export {
  type HierarchyPlacement,
  type PlacementState,
  type Verdict,
  type Verification,
  type VerifyOptions,
  verify,
} from './jobs/verification.js';
export type { AboutJob, JobChange } from './jobs/watch/changes.js';
export { type JobEvent, type WatchJobsOptions, watchJobs } from './jobs/watch/watch.js';
export type { Deadline, WaitOptions } from './machine/deadline.js';
export {
  ConfigError,
  type ErrorCode,
  type ErrorSubject,
  hasCode,
  ParseError,
  SlurmCgroupsError,
  SystemCallError,
} from './machine/errors.js';
export type {
  Directory,
  Entry,
  EntryKind,
  FileStat,
  HeldForSignal,
  Host,
  HostOption,
  Libc,
  RunOptions,
  RunResult,
  Self,
  Signal,
  Started,
  StartOptions,
} from './machine/host.js';
export { liveHost } from './machine/live-host.js';
export type { Pace } from './machine/pace.js';
export type { Slots } from './machine/slots.js';
export type { Connection } from './machine/socket.js';
export type {
  AdoptDecision,
  AdoptionDecision,
  AdoptionReport,
  AdoptionTarget,
  AnswerDecision,
  AskDecision,
  Explained,
  FinalAnswer,
  NextDecision,
  Rule,
  WaitDecision,
} from './policy/answer.js';
export { decideAdoption, decideAfterAdoption } from './policy/decision.js';
export {
  type AdoptionFacts,
  type AdoptionRequest,
  afterWaiting,
  type ExcludedJob,
  type Fact,
  type FactName,
  type JobRef,
  type JobState,
  type NamedJob,
  type NodeFact,
  withEnding,
  withExcluded,
} from './policy/facts.js';
export {
  type NewestJob,
  type NewestOptions,
  newestJob,
  type Ranking,
  type RankName,
  rankJobs,
  rankNames,
} from './policy/newest.js';
export {
  type AdoptionOptions,
  checkOptions,
  defaultOptions,
  formatOptions,
  type LogLevel,
  type OptionSpec,
  optionTable,
  parseOptions,
} from './policy/options.js';
