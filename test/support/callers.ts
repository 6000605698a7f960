// What caller ID is asked in tests: a connection by its text, and answers as a person reads them.

import { parseSshConnection } from '../../src/adopt/connection.js';
import type { CallerIdAnswer } from '../../src/jobs/caller/question.js';
import type { TcpConnection } from '../../src/machine/tcp-table.js';

export function connectionOf(text: string): TcpConnection {
  const found = parseSshConnection(text);
  if ('why' in found) throw new Error(found.why);
  return found.connection;
}

export function said(answer: CallerIdAnswer | undefined): string {
  if (answer === undefined) return 'another node';
  if (answer.answer === 'unknown') return answer.why;
  return answer.answer === 'none' ? 'none' : `job ${answer.jobId} of ${answer.uid ?? 'somebody'}`;
}
