import { describe, expect, it } from 'vitest';
import { expectedAnswer } from '../../src/doctor/pam-answers.js';

describe('expectedAnswer()', () => {
  it.each([
    ['pam_unix', [], 'success', 'success'],
    ['pam_localuser', [], 'success', 'perm_denied'],
    ['pam_sss', [], 'user_unknown', 'success'],
    ['pam_ldap', ['ignore_unknown_user'], 'ignore', 'success'],
    ['pam_usertype', ['issystem'], 'auth_err', 'auth_err'],
    ['pam_usertype', ['isregular'], 'success', 'success'],
    ['pam_access', [], 'chosen', 'chosen'],
    ['pam_of_a_site', [], 'chosen', 'chosen'],
    ['pam_succeed_if', ['quiet', 'uid', '<', '1000'], 'auth_err', 'auth_err'],
    ['pam_succeed_if', ['uid', 'ge', '1000', 'quiet_success'], 'success', 'success'],
    ['pam_succeed_if', ['uid', '>', '5000'], 'chosen', 'chosen'],
    ['pam_succeed_if', ['uid', '>=', '500', 'user', 'ingroup', 'wheel'], 'chosen', 'chosen'],
    ['pam_succeed_if', ['user', 'ingroup', 'wheel', 'user', '=', 'root'], 'auth_err', 'auth_err'],
    ['pam_succeed_if', ['service', 'in', 'sshd:login'], 'success', 'success'],
    ['pam_succeed_if', ['service', 'notin', 'sshd'], 'auth_err', 'auth_err'],
    ['pam_succeed_if', [], 'chosen', 'chosen'],
  ])('%s %j', (module, args, local, directory) => {
    expect([expectedAnswer({ module, args }, 'local'), expectedAnswer({ module, args }, 'directory')]).toEqual([
      local,
      directory,
    ]);
  });
});
