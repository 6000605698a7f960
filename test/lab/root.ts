// The file system a guest runs on: a minimal Debian with what the tests use, made by mmdebstrap, never written
// to afterwards (a guest sees it read-only below a tmpfs).

import fs from 'node:fs';
import { kept } from './cache.js';
import { runTool } from './tool.js';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Beyond the essential ones: what Node.js links to, and what the tests run. What they compile is carried in. */
const packages = ['libstdc++6', 'mount', 'procps', 'python3-minimal'];

/** Nobody reads these in a guest, and over 9p each file costs. */
const leftOut = ['man', 'locale', 'doc', 'info'].map((folder) => `--dpkgopt=path-exclude=/usr/share/${folder}/*`);

export type Suite = 'bookworm';

/** The source of packages: the mirror that apt uses here. */
export function sourceOf(suite: Suite): string {
  return `deb [signed-by=${keyring}] ${mirror()} ${suite} main`;
}

function mirror(): string {
  for (const file of ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list']) {
    const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
    const found = /^URIs:\s*(\S+)/m.exec(text) ?? /^deb (?:\[[^\]]*\] )?(http\S+)/m.exec(text);
    if (found?.[1] !== undefined) return found[1];
  }
  throw new Error("Cannot build a guest: apt's sources name no Debian mirror (/etc/apt/sources.list.d/debian.sources)");
}

export async function keptRoot(suite: Suite, say: (text: string) => void): Promise<string> {
  return kept({
    name: `root-${suite}`,
    ingredients: ['1', ...packages, ...leftOut],
    async make(folder) {
      say(`Making the root ${suite} …`);
      await runTool('/usr/bin/mmdebstrap', [
        '--mode=root',
        '--variant=essential',
        '--architectures=amd64',
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        ...leftOut,
        `--include=${packages.join(',')}`,
        suite,
        folder,
        sourceOf(suite),
      ]);
    },
  });
}
