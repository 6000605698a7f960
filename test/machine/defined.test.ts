import fc from 'fast-check';
import { expect, expectTypeOf, it } from 'vitest';
import { defined } from '../../src/machine/defined.js';

it('defined() leaves out what is undefined, and nothing else', () => {
  expect(Object.entries(defined({ a: 0, b: undefined, c: '', d: null, e: false }))).toEqual([
    ['a', 0],
    ['c', ''],
    ['d', null],
    ['e', false],
  ]);
  fc.assert(
    fc.property(
      fc.dictionary(fc.stringMatching(/^[a-z]+$/), fc.option(fc.anything(), { nil: undefined })),
      (values) => {
        const made = defined(values);
        expect(Object.values(made)).not.toContain(undefined);
        expect(made).toEqual(values); // to which an absent key and an undefined one are the same
      },
    ),
  );
});

it('defined() has optional keys where a value can be undefined, and required ones elsewhere', () => {
  const of = (uid: number | undefined, name: string) => defined({ uid, name });
  expectTypeOf(of).returns.toExtend<{ readonly uid?: number; readonly name: string }>();
  const wanted: { readonly uid?: number; readonly name: string; readonly more: 1 } = { more: 1, ...of(undefined, 'a') };
  expect(Object.keys(wanted)).toEqual(['more', 'name']);
  // @ts-expect-error: a uid is no text
  const wrong: { readonly uid?: string } = defined({ uid: Number(1) });
  expect(wrong).toEqual({ uid: 1 });
});
