// What the measurements use of the tests: a real Slurm, and trees of recorded jobs.

export { startCluster, until, users } from '../test/slurm/cluster.js';
export { SshServer } from '../test/slurm/ssh-server.js';
export { treeText } from '../test/support/small-trees.js';
