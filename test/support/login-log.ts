// Logins of tests are written down as every login is: where there is no journal, in a file of this machine.

import fs from 'node:fs';

const file = '/run/slurm-cgroups/logins.log';

/** Whether the file is there now; call what it gives at the end, which removes a file that was not. */
export function keepLoginLog(): () => void {
  const wasThere = fs.existsSync(file);
  return () => {
    if (!wasThere) fs.rmSync(file, { force: true });
  };
}
