// How the package is loaded, where it cannot be, and what its version is.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import * as sendfd from 'sendfd';
import { fails, node, receive, sig } from './helpers.mjs';

const require = createRequire(import.meta.url);
const root = new URL('..', import.meta.url);

test('import and require give one and the same', () => {
  const required = require('sendfd');
  const names = Object.keys(required).sort();
  assert.deepEqual(names, [
    'MAX_DATA',
    'MAX_FDS',
    'Message',
    'Receiver',
    'SIGRTMAX',
    'SIGRTMIN',
    'Takeover',
    'Target',
    'Targets',
    'detect',
    'listen',
    'offerTakeover',
    'port',
    'probe',
    'probeSelf',
    'send',
    'sendSync',
    'takeOver',
    'unlisten',
    'version',
  ]);
  for (const name of names) assert.equal(Reflect.get(sendfd, name), required[name]);
  assert.equal(sendfd.default, required);
});

test('loaded twice, both work and know of each other', async () => {
  const file = require.resolve('sendfd');
  const loaded = Object.keys(require.cache).filter((name) => name.startsWith(file.slice(0, -8)));
  assert.ok(loaded.length > 5);
  const kept = loaded.map((name) => [name, require.cache[name]]);
  for (const name of loaded) delete require.cache[name];
  const again = require('sendfd');
  for (const [name, module] of kept) require.cache[name] = module;
  assert.notEqual(again.Receiver, sendfd.Receiver);

  const receiver = new again.Receiver(sig);
  await fails(() => new sendfd.Receiver(sig), 'EADDRINUSE', -98);
  await sendfd.send(process.pid, sig, 0);
  await again.send(process.pid, sig, 0);
  for (let i = 0; i < 2; i++) (await receive(receiver)).close();
  receiver.close();
});

test('the versions of all parts agree', () => {
  const { version } = JSON.parse(fs.readFileSync(new URL('package.json', root)));
  const lock = JSON.parse(fs.readFileSync(new URL('package-lock.json', root)));
  const [, workspace] = /^version = "(.*)"/m.exec(
    fs.readFileSync(new URL('../../Cargo.toml', root), 'utf8'),
  );
  assert.equal(version, workspace);
  assert.equal(sendfd.version, workspace);
  assert.equal(lock.version, workspace);
  const platforms = fs.readdirSync(new URL('npm', root));
  assert.equal(platforms.length, 4);
  for (const platform of platforms) {
    const one = JSON.parse(fs.readFileSync(new URL(`npm/${platform}/package.json`, root)));
    assert.equal(one.version, workspace);
    assert.equal(one.name, `sendfd-${platform}`);
    assert.deepEqual(one.os, ['linux']);
    assert.equal(one.cpu.length, 1);
    assert.deepEqual(one.libc, [platform.endsWith('musl') ? 'musl' : 'glibc']);
  }
});

test('ports are counted from the last signal', () => {
  assert.deepEqual([0, 1, 29].map(sendfd.port), [64, 63, 35]);
  for (const n of [-1, 30, 1.5]) assert.throws(() => sendfd.port(n), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => sendfd.port('1'), { code: 'ERR_INVALID_ARG_TYPE' });
});

test('the signals are those of the C library', () => {
  // It keeps two of the kernel's 32 for itself, musl three.
  const { glibcVersionRuntime } = process.report.getReport().header;
  assert.deepEqual([sendfd.SIGRTMIN, sendfd.SIGRTMAX], [glibcVersionRuntime ? 34 : 35, 64]);
});

const elsewhere = (setup) => `
  import { createRequire } from 'node:module';
  ${setup}
  try {
    createRequire(${JSON.stringify(root.href)})('sendfd');
  } catch (error) {
    console.log(error.code, error.message);
  }`;

test('on another system, require() says so', async (t) => {
  const { line, exited } = node(
    t,
    elsewhere(`Object.defineProperty(process, 'platform', { value: 'darwin' });`),
  );
  assert.match(await line(), /^ERR_SENDFD_UNSUPPORTED_PLATFORM sendfd needs Linux.* darwin/);
  await exited();
});

test('on another machine, require() names the package that is missing', async (t) => {
  const { line, exited } = node(
    t,
    elsewhere(`Object.defineProperty(process, 'arch', { value: 'riscv64' });`),
  );
  assert.match(
    await line(),
    /^ERR_SENDFD_UNSUPPORTED_PLATFORM .*sendfd-linux-riscv64-gnu .* is not installed/,
  );
  await exited();
});

test('the addon stays in memory when the last thread that loaded it ends', () => {
  const addon = fs.readdirSync(root).find((name) => name.endsWith('.node'));
  const flags = execFileSync('readelf', ['--dynamic', new URL(addon, root).pathname], {
    encoding: 'utf8',
  });
  assert.match(flags, /NODELETE/);
});

test('the addon exports what Node needs, and nothing of the C library', () => {
  const addon = fs.readdirSync(root).find((name) => name.endsWith('.node'));
  const symbols = execFileSync(
    'nm',
    ['--dynamic', '--defined-only', '--format=posix', new URL(addon, root).pathname],
    { encoding: 'utf8' },
  );
  const names = symbols
    .trim()
    .split('\n')
    .map((symbol) => symbol.split(' ')[0]);
  assert.ok(names.includes('napi_register_module_v1'));
  assert.deepEqual(
    names.filter((name) => name.startsWith('sendfd')),
    [],
  );
});
