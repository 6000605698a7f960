// Makes recordings of the matrix's cells into test data: npm run test:matrix -- --keep FOLDER, then
// node test/recordings/keep-cells.mjs FOLDER. Beside the node that doctor recorded stands what Slurm itself said of
// it at that moment (squeue, scontrol listpids), and what the live node answered.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { gzipSync } from 'node:zlib';

const [from] = process.argv.slice(2);
if (from === undefined) {
  process.stderr.write('usage: node test/recordings/keep-cells.mjs FOLDER\n');
  process.exit(2);
}
const into = path.join(import.meta.dirname, 'cells');

/** Of one node the steps stand in its jobs, of two there is a list for each. */
function slurmSays({ node, jobs, pids }) {
  const listed =
    pids !== undefined
      ? Object.entries(pids).flatMap(([name, all]) => all.map((one) => ({ node: name, ...one })))
      : jobs.flatMap(({ jobId, steps }) =>
          steps.flatMap(({ stepId, slurmstepd, pids: all }) =>
            all.filter((pid) => pid !== slurmstepd).map((pid) => ({ node, pid, jobId, stepId })),
          ),
        );
  return { jobs: jobs.map(({ jobId, uid }) => ({ jobId, uid })), pids: listed };
}

for (const name of fs.readdirSync(from).sort()) {
  const kept = JSON.parse(fs.readFileSync(path.join(from, name, 'expected.json'), 'utf8'));
  const { cell, newest, adopted, brief, list } = kept;
  const { full: _, ...about } = cell;
  const expected = { cell: about, slurm: slurmSays(kept), newest, adopted, brief, list };
  fs.writeFileSync(path.join(into, `${name}.json`), `${JSON.stringify(expected)}\n`);
  const recording = fs.readFileSync(path.join(from, name, 'recording.jsonl'));
  fs.writeFileSync(path.join(into, `${name}.jsonl.gz`), gzipSync(recording, { level: 9 }));
}
