import { describe, expect, it } from 'vitest';
import { openLog } from '../../src/cli/log.js';
import { runProgramFile } from '../support/program-run.js';

describe('openLog()', () => {
  it.each(['quiet', 'fatal', 'error', 'info', 'verbose', 'debug', 'debug2', 'debug5', 'DEBUG', '0', '3', '9'])(
    'takes %s',
    (level) => {
      expect(() => openLog('list', level, () => {})).not.toThrow();
    },
  );

  it.each(['loud', '10', '-1', ''])('refuses %j and lists what there is', (level) => {
    expect(() => openLog('list', level, () => {})).toThrow(/quiet fatal error info verbose debug|0 to 9/);
  });

  it('writes JSON lines to stderr, none above the level', () => {
    const { stderr } = runProgramFile('verify', 'self', '--log-level', 'debug');
    const lines = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map((line) => line.level)).toContain(20);
    for (const line of lines)
      expect(line).toMatchObject({
        command: 'verify',
        msg: expect.any(String),
        time: expect.stringMatching(/^\d{4}-/),
      });
    expect(runProgramFile('verify', 'self', '--log-level', 'quiet').stderr).toBe('');
    expect(runProgramFile('verify', 'self', '--log-level', '3').stderr).not.toContain('"level":20');
  });
});
