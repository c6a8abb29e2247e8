// What npm publishes has to be whole: runs before `npm publish`, which stops if this fails. The main
// package carries no addon of its own: each platform's is a package that it names.

import fs from 'node:fs';

const at = (path) => new URL(`../${path}`, import.meta.url);
const json = (path) => JSON.parse(fs.readFileSync(at(path)));
const wrong = [];
const need = (path, hint) => fs.existsSync(at(path)) || wrong.push(`${path} is missing: ${hint}`);

const { version, optionalDependencies = {} } = json('package.json');
for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) need(name, 'make pack');
need('dist/index.js', 'make build');
for (const platform of fs.readdirSync(at('npm'))) {
  const name = `sendfd-${platform}`;
  need(`npm/${platform}/sendfd.${platform}.node`, 'build it, and publish it first');
  if (json(`npm/${platform}/package.json`).version !== version)
    wrong.push(`${name} is no ${version}`);
  if (optionalDependencies[name] !== version) {
    wrong.push(
      `optionalDependencies do not name ${name} ${version}: npx napi prepublish -t npm --no-gh-release`,
    );
  }
}
if (fs.readdirSync(at('.')).some((name) => name.endsWith('.node'))) {
  wrong.push('an addon of this machine would be packed: rm sendfd.*.node');
}
if (wrong.length > 0) {
  console.error(`not ready to be published:\n  ${wrong.join('\n  ')}`);
  process.exit(1);
}
