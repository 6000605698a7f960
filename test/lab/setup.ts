// Before the first guest: what they are made of, once for all files.

import { prepareLab } from './guest.js';

export default async function prepare(): Promise<void> {
  await prepareLab({}, (text) => console.error(text));
}
