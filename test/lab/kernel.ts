// Debian's kernels, and the small first file system that each starts with: busybox, the drivers on the way to
// 9p, and init.sh.

import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { kept } from './cache.js';
import { type Suite, sourceOf } from './root.js';
import { runTool } from './tool.js';

export type KernelName = '5.10' | '6.1' | '6.12' | '7.2';

interface Kernel {
  readonly suite: Suite;
  /** Of Debian, in the order in which they are loaded (no modprobe: the first file system has busybox alone). */
  readonly modules: readonly string[];
}

const kernels: Readonly<Record<KernelName, Kernel>> = {
  // Before cgroup.kill; v1 runs. What nodes of RHEL 8 are like.
  '5.10': {
    suite: 'bullseye',
    modules: [
      ...['virtio_ring', 'virtio', 'virtio_pci'],
      ...['fscache', '9pnet', '9pnet_virtio', '9p', 'overlay', 'dummy'],
    ],
  },
  // The last with every v1 controller, and with all of v2: either can be mounted alone.
  '6.1': {
    suite: 'bookworm',
    modules: [
      ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci'],
      ...['netfs', 'fscache', '9pnet', '9pnet_virtio', '9p', 'overlay', 'fuse', 'dummy'],
      ...['sunrpc', 'grace', 'lockd', 'nfs_acl', 'nfs', 'nfsv3'],
    ],
  },
  // v2, and only part of v1. Virtio is built in. veth: two nodes on one machine have networks of their own.
  '6.12': { suite: 'trixie', modules: ['netfs', '9pnet', '9pnet_virtio', '9p', 'overlay', 'dummy', 'veth'] },
  '7.2': { suite: 'forky', modules: ['netfs', '9pnet', '9pnet_virtio', '9p', 'overlay', 'dummy', 'veth'] },
};

export interface Boot {
  readonly kernel: string;
  readonly initramfs: string;
}

export async function keptKernel(name: KernelName, say: (text: string) => void): Promise<Boot> {
  const { suite, modules } = kernels[name];
  const kernel = await kept({
    name: `kernel-${name}`,
    ingredients: ['1', suite, ...modules],
    async make(folder) {
      say(`Fetching the kernel ${name} of ${suite} …`);
      await download(suite, folder, modules);
    },
  });
  const init = fs.readFileSync(path.join(import.meta.dirname, 'init.sh'), 'utf8');
  const busybox = fs.statSync('/bin/busybox');
  const initramfs = await kept({
    name: `initramfs-${name}`,
    ingredients: ['1', path.basename(kernel), init, String(busybox.size), String(busybox.mtimeMs)],
    make: (folder) => pack(folder, kernel, modules, init),
  });
  return { kernel: `${kernel}/vmlinuz`, initramfs: `${initramfs}/initramfs.gz` };
}

/** With lists and a cache of its own: the host's apt stays as it is. Keeps vmlinuz and the modules asked for. */
async function download(suite: Suite, folder: string, modules: readonly string[]): Promise<void> {
  const work = path.join(folder, 'work');
  for (const part of ['lists/partial', 'cache/archives/partial', 'unpacked'])
    fs.mkdirSync(path.join(work, part), { recursive: true });
  fs.writeFileSync(path.join(work, 'sources.list'), `${sourceOf(suite)}\n`);
  const options = [
    `Dir::Etc::sourcelist=${work}/sources.list`,
    'Dir::Etc::sourceparts=/dev/null',
    `Dir::State::lists=${work}/lists`,
    `Dir::Cache=${work}/cache`,
    'Acquire::Languages=none',
    'Acquire::Check-Valid-Until=false',
    'APT::Sandbox::User=root',
  ];
  const apt = options.flatMap((option) => ['-o', option]);
  await runTool('/usr/bin/apt-get', [...apt, 'update', '-qq']);
  const dependsOf = async (name: string): Promise<readonly string[]> => {
    const told = (await runTool('/usr/bin/apt-cache', [...apt, 'depends', name])).toString();
    return [...told.matchAll(/Depends: (linux-(?:image|binary|modules)-\S+)/g)].flatMap(([, one]) => one ?? []);
  };
  const [image] = await dependsOf('linux-image-amd64');
  if (image === undefined)
    throw new Error(`Cannot fetch the kernel of ${suite}: linux-image-amd64 depends on no image`);
  // From 7.x on the image is an empty package that needs two: one with the kernel, one with its modules.
  const parts = await dependsOf(image);
  await runTool('/usr/bin/apt-get', [...apt, 'download', '-qq', ...(parts.length === 0 ? [image] : parts)], {
    cwd: work,
  });
  const archives = fs.readdirSync(work).filter((file) => file.endsWith('.deb'));
  if (archives.length === 0)
    throw new Error(`Cannot fetch the kernel of ${suite}: apt-get download ${image} left no file`);
  for (const archive of archives) await runTool('/usr/bin/dpkg-deb', ['-x', archive, 'unpacked'], { cwd: work });
  const files = fs.readdirSync(path.join(work, 'unpacked'), { recursive: true, encoding: 'utf8' });
  const take = async (wanted: RegExp, name: string) => {
    const found = files.find((file) => wanted.test(path.basename(file)));
    if (found === undefined) throw new Error(`${image} has no ${name}`);
    const from = path.join(work, 'unpacked', found);
    fs.writeFileSync(
      path.join(folder, name),
      found.endsWith('.xz') ? await runTool('/usr/bin/xz', ['-dc', from]) : fs.readFileSync(from),
    );
  };
  await take(/^vmlinuz/, 'vmlinuz');
  for (const module of modules) await take(new RegExp(`^${module}\\.ko(\\.xz)?$`), `${module}.ko`);
  fs.writeFileSync(path.join(folder, 'package'), `${archives.join('\n')}\n`);
  fs.rmSync(work, { recursive: true });
}

async function pack(folder: string, kernel: string, modules: readonly string[], init: string): Promise<void> {
  const tree = path.join(folder, 'tree');
  for (const part of ['bin', 'modules', 'proc', 'sys', 'dev', 'host', 'rw', 'root'])
    fs.mkdirSync(path.join(tree, part), { recursive: true });
  fs.copyFileSync('/bin/busybox', path.join(tree, 'bin/busybox'));
  fs.writeFileSync(path.join(tree, 'init'), init, { mode: 0o755 });
  for (const [at, module] of modules.entries()) {
    fs.copyFileSync(
      path.join(kernel, `${module}.ko`),
      path.join(tree, 'modules', `${String(at).padStart(2, '0')}-${module}.ko`),
    );
  }
  const names = fs.readdirSync(tree, { recursive: true, encoding: 'utf8' });
  const archive = await runTool('/usr/bin/cpio', ['--quiet', '-o', '-H', 'newc'], {
    cwd: tree,
    input: `${names.sort().join('\n')}\n`,
  });
  fs.writeFileSync(path.join(folder, 'initramfs.gz'), gzipSync(archive, { level: 1 }));
  fs.rmSync(tree, { recursive: true });
}
