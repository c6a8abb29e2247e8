// What a user gets: the tarballs, installed in an empty folder.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = (cwd, command, ...args) => execFileSync(command, args, { cwd, encoding: 'utf8' });

const program = `
  import { Receiver, send, SIGRTMIN } from 'sendfd';
  const receiver = new Receiver(SIGRTMIN);
  await send(process.pid, SIGRTMIN, 0, { data: 'installed' });
  for await (const message of receiver) {
    console.log(message.data.toString());
    message.close();
    receiver.close();
  }`;

test('npm pack, npm install in an empty folder, run', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-package-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  run(root, 'make', '--silent', 'pack');
  const tarballs = fs.readdirSync(path.join(root, 'build')).filter((name) => name.endsWith('.tgz'));
  const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json')));
  const main = tarballs.find((name) => name === `sendfd-${version}.tgz`);
  const platform = tarballs.find((name) => /^sendfd-linux-/.test(name));
  assert.ok(main && platform, tarballs.join());

  const contents = run(root, 'tar', '--list', '--file', `build/${main}`).split('\n').sort();
  for (const name of ['README.md', 'LICENSE-MIT', 'types/index.d.ts', 'dist/index.js']) {
    assert.ok(contents.includes(`package/${name}`), name);
  }
  assert.ok(!contents.some((name) => /test|\.ts$/.test(name.replace(/\.d\.ts$/, ''))));

  // Alone, as it was packed with the addon that was built here.
  const app = path.join(folder, 'app');
  fs.mkdirSync(app);
  fs.writeFileSync(path.join(app, 'package.json'), '{"private": true, "type": "module"}');
  fs.writeFileSync(path.join(app, 'program.mjs'), program);
  const install = (...names) =>
    run(app, 'npm', 'install', '--offline', '--no-audit', '--no-fund', ...names);
  install(path.join(root, 'build', main));
  assert.equal(run(app, process.execPath, 'program.mjs'), 'installed\n');

  // With the package of this platform, as from the registry.
  install(path.join(root, 'build', platform));
  const installed = path.join(app, 'node_modules/sendfd');
  for (const name of fs.readdirSync(installed)) {
    if (name.endsWith('.node')) fs.rmSync(path.join(installed, name));
  }
  assert.equal(run(app, process.execPath, 'program.mjs'), 'installed\n');
});
