// What a job on this node is, as a value: its steps and where they lie in each hierarchy. It holds nothing
// open; its reader compares inodes before any effect. How it was found: discovery.ts.

/** One directory of a job or step in one hierarchy. */
export interface JobCgroup {
  /** `Hierarchy.key`: `memory`, `cpu,cpuacct`, `name=systemd`, or `unified` for v2. */
  readonly hierarchy: string;
  /** Controllers of that hierarchy; empty for v2. */
  readonly controllers: readonly string[];
  /** Absolute path of the directory. */
  readonly path: string;
  /** Where it was asked for (`jobTimes` of discoverJobs): what pam_slurm_adopt ranks by, true up to 23.02 only. */
  readonly mtimeNs?: bigint;
}

/**
 * The directory of an extern step. Its mtime is the creation of the step up to Slurm 23.02; later it can be
 * too late, never too early (any `ls -l` makes it "now").
 */
export interface ExternCgroup extends JobCgroup {
  readonly inode: bigint;
  /** Nanoseconds since 1970. */
  readonly mtimeNs: bigint;
}

export interface Step {
  /** `extern`, `batch`, `interactive`, a number, a number with a het component (`0+1`), or what else stood there. */
  readonly stepId: string;
  readonly cgroups: readonly JobCgroup[];
}

/** What is known of when the job's extern step began. Absent: not looked for, or not there. */
export interface ExternStep {
  readonly cgroups: readonly ExternCgroup[];
  /** The earlier of ctime and mtime of the step's socket in the spool, in ns since 1970. */
  readonly socketNs?: bigint;
  /** Start of its slurmstepd, field 22 of /proc/PID/stat, in clock ticks since boot. */
  readonly stepdStartTicks?: bigint;
}

/** A job with a directory in at least one hierarchy of this node. */
export interface Job {
  /** Unknown for directories named by SLUID until its slurmstepd was asked. */
  readonly jobId?: number;
  /** `s` and 13 characters (26.05 on), where the directory is named so. */
  readonly sluid?: string;
  /** Owner. In the path on v1; on v2 unknown until findOwners. */
  readonly uid?: number;
  /** Why `uid` or `jobId` is not known, after findOwners: one line for people. */
  readonly unknownWhy?: string;
  /** NodeName of slurm.conf where the path names it (a multiple-slurmd build). */
  readonly nodeName?: string;
  readonly steps: readonly Step[];
  /** The job's own directory in each hierarchy. */
  readonly cgroups: readonly JobCgroup[];
  readonly extern?: ExternStep;
  /** Hierarchies in which this node's Slurm has a tree, but this job no extern step (25.05 on: until its first adoption). */
  readonly externMissingIn: readonly string[];
}

/** How an owner is known. */
export type OwnerSource = 'path' | 'stepd' | 'slurm_script';

export interface OwnedJob extends Job {
  /** Absent with `uid`: nothing here says whose job it is. */
  readonly ownerFrom?: OwnerSource;
}

/** How a person names a job: `job 7`, or its SLUID where the id is not known. */
export function nameOfJob(job: Pick<Job, 'jobId' | 'sluid'>): string {
  if (job.jobId !== undefined) return `job ${job.jobId}`;
  return job.sluid === undefined ? 'a job without id' : `job ${job.sluid}`;
}
