// What the measurements use of the product, in one list that the compiler checks; load.mjs bundles it.

export { parseSshConnection } from '../src/adopt/connection.js';
export { admitSession } from '../src/adopt/session.js';
export { discoverHierarchies } from '../src/cgroup/hierarchies.js';
export { killMembers } from '../src/cgroup/killing.js';
export { parseProcCgroup } from '../src/cgroup/membership.js';
export { parseMountInfo } from '../src/cgroup/mounts.js';
export { readProcessTable } from '../src/cleanup/strays/process-table.js';
export { askCallerId } from '../src/jobs/caller/ask.js';
export { configLines } from '../src/jobs/config/syntax.js';
export { cgroupOf, discoverJobs } from '../src/jobs/discovery.js';
export { readNode } from '../src/jobs/node.js';
export { askOwners } from '../src/jobs/owners/asked.js';
export { findOwners } from '../src/jobs/owners/find.js';
export { membersOfStep } from '../src/jobs/processes.js';
export { deadlineIn } from '../src/machine/deadline.js';
export { recordedHost } from '../src/machine/recording.js';
