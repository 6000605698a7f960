// Caller ID beside Slurm's own program, on a real Slurm: a job connects to this process, over loopback, which is this
// node. Answered here, as a login asks it, against a whole `scontrol callerid`; then both of a source that has no slurmd
// (refused) and of one that drops packets (silent), where ours goes through scontrol too, until its deadline or, the
// second time, without asking.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { loadTests } from './load.mjs';
import { inTurn, median, wholeProcess } from './measure.mjs';
import { onCluster } from './owners.mjs';

const scontrol = '/usr/bin/scontrol';

/** @param {{ product: object, report: Function }} of */
export async function measureCallerId({ product, report }) {
  const tests = await loadTests();
  await onCluster(tests, 'caller ID is', (cluster) => measureOn({ product, report, cluster, user: tests.users[0] }));
}

async function measureOn({ product, report, cluster, user }) {
  const server = net.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const script = `require("net").connect(${port}, "127.0.0.1"); setTimeout(() => {}, 600000)`;
  const accepted = once(server, 'connection');
  const jobId = await cluster.submit(user, `exec ${process.execPath} -e '${script}'`);
  await cluster.submit(user, 'sleep 600');
  const [socket] = await accepted;
  try {
    const node = await product.readNode({ nodeName: cluster.nodeName });
    const uid = 1; // the first of the test's users
    const ownJobs = product.discoverJobs(node, { uid });
    const ask = (text, timeoutMs, remember = false) => {
      const { connection } = product.parseSshConnection(text);
      const deadline = product.deadlineIn(node.host, timeoutMs);
      return product.askCallerId({ node, connection, uid, ownJobs, deadline }, { remember });
    };
    process.env.SLURM_CONF = cluster.conf; // scontrol's environment is ours
    const own = `127.0.0.1 ${socket.remotePort} 127.0.0.1 ${port}`;
    const here = async () => {
      const answer = await ask(own, 60_000);
      if (answer.jobId !== jobId) throw new Error(`job ${jobId}, not ${JSON.stringify(answer)}`);
    };
    const [ours, theirs] = await inTurn([here, callerId(own, [0])], { rounds: 31 });
    // Both wait for /proc/net/tcp, which costs 1 to 5 ms by the size of the kernel's hash table (262,144: 4.6 ms).
    report('caller ID, this node, in process', [ours, theirs], 'scontrol callerid, whole', 1);
    await measureElsewhere({ report, ask });
  } finally {
    delete process.env.SLURM_CONF;
    socket.destroy();
    server.close();
  }
}

function callerId(text, answers) {
  return wholeProcess(scontrol, ['callerid', ...text.split(' '), '4'], { answers, stderr: 'ignore' });
}

/**
 * Another machine: one address of a namespace of its own at the other end of a pair of devices refuses, another there
 * is dropped by a route. Without iproute2 it is said.
 */
async function measureElsewhere({ report, ask }) {
  const net = otherMachine();
  if (net === undefined) return;
  try {
    const refused = `${net.refuses} 51234 ${net.own} 22`;
    const refusing = async () => {
      const answer = await ask(refused, 60_000);
      if (!/refused/.test(answer.why)) throw new Error(JSON.stringify(answer));
    };
    const [ours, theirs] = await inTurn([refusing, callerId(refused, [1])], { rounds: 21 });
    // Ours is the same scontrol, looked for and checked, started through env(1), its words read.
    report('caller ID, refused, in process', [ours, theirs], 'scontrol callerid, whole', 2);
    const silent = `${net.silent} 51234 ${net.own} 22`;
    const limited = async () => {
      await ask(silent, 500);
    };
    const [late, given] = await inTurn([limited, callerId(silent, [1])], { rounds: 3, warmUp: 0 });
    report('caller ID, silent, callerid_timeout=500ms', [late, given], 'scontrol callerid, whole', 0.5);
    await ask(silent, 500, true);
    const again = [];
    for (let i = 0; i < 21; i++) {
      const begin = performance.now();
      await ask(silent, 500);
      again.push(performance.now() - begin);
    }
    report('caller ID, silent, within the minute after', [median(again), given], 'scontrol callerid, whole', 0.01);
    fs.rmSync(`/run/slurm-cgroups/silent/${net.silent}`, { force: true });
  } finally {
    net.remove();
  }
}

/** Addresses of a documentation network (RFC 5737): nobody else has them. */
function otherMachine() {
  const name = `scgb${process.pid}`;
  const [own, refuses, silent] = ['203.0.113.1', '203.0.113.2', '203.0.113.3'];
  const ip = (...words) => execFileSync('/usr/sbin/ip', words, { stdio: ['ignore', 'ignore', 'pipe'] });
  // The devices go with the namespace.
  const remove = () => {
    try {
      ip('netns', 'del', name);
    } catch {}
  };
  try {
    ip('netns', 'add', name);
    ip('link', 'add', `${name}a`, 'type', 'veth', 'peer', 'name', `${name}b`, 'netns', name);
    ip('addr', 'add', `${own}/29`, 'dev', `${name}a`);
    ip('link', 'set', `${name}a`, 'up');
    ip('-n', name, 'addr', 'add', `${refuses}/29`, 'dev', `${name}b`);
    ip('-n', name, 'link', 'set', `${name}b`, 'up');
    // A neighbour that is there, and whose packets nobody takes.
    ip('neigh', 'add', silent, 'lladdr', '02:00:00:00:00:99', 'dev', `${name}a`);
    return { own, refuses, silent, remove };
  } catch (error) {
    remove();
    console.log(`${String(error.message).split('\n')[0]}: caller ID is not measured with another machine.`);
    return undefined;
  }
}
