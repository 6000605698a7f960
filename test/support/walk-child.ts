// Walks through a tree that is too large for a small heap, if paths were kept, and removes it. Run by
// test/cgroup/walk.test.ts, which gives the tree.

import process from 'node:process';
import { removeTrees } from '../../src/cgroup/removal.js';
import { liveHost } from '../../src/machine/live-host.js';
import { asCgroup } from './directory-trees.js';

const host = liveHost();
const cgroup = asCgroup(host, process.argv[2] ?? '');
const all = await cgroup.descendants({ timeoutMs: 60_000 });
const longestShown = Math.max(...all.map((one) => one.shown.length));
const { removed, left } = await removeTrees(host, [cgroup], { timeoutMs: 60_000 });
process.stdout.write(JSON.stringify({ found: all.length, removed: removed.length, longestShown, left }));
