import { expect, test } from 'vitest';
import { withHeld } from '../../src/machine/held.js';

test('withHeld() gives what is seen, and closes whatever happens', () => {
  const held = (closed: string[]) => ({ name: 'x', close: () => void closed.push('closed') });
  const [good, bad]: [string[], string[]] = [[], []];
  expect(withHeld(held(good), ({ name }) => [name, ...good])).toEqual(['x']);
  expect(good).toEqual(['closed']);
  const look = () =>
    withHeld(held(bad), () => {
      throw new Error('no');
    });
  expect(look).toThrow('no');
  expect(bad).toEqual(['closed']);
});
