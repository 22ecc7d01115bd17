import * as vscode from 'vscode';
import type { LanguageClient } from 'vscode-languageclient/node';
import { createClient, focus } from './client';
import { askForToken, CLIENT_SETTINGS, findServer } from './server';
import { Shown } from './shown';
import { Status } from './status';

let client: LanguageClient | undefined;
/** Starts and stops happen one after the other. */
let turn: Promise<void> = Promise.resolve();

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const output = vscode.window.createOutputChannel('Midfill', { log: true });
  const status = new Status();
  const shown = new Shown(() => client);

  const restart = (): Promise<void> => {
    turn = turn.then(async () => {
      await stop();
      client = createClient(await findServer(context.secrets), output, status, shown);
      try {
        await client.start();
        focus(client, vscode.window.activeTextEditor);
      } catch (error) {
        output.error(`The language server did not start: ${error}`);
        const message = 'the language server did not start (see the output, or midfill.serverCommand)';
        status.show({ busy: false, kind: 'Error', message });
      }
    });
    return turn;
  };

  const command = (name: string, run: () => unknown) => vscode.commands.registerCommand(name, run);
  context.subscriptions.push(
    output,
    status,
    command('midfill.restart', restart),
    command('midfill.toggleEnabled', () => onServer('midfill.toggle')),
    command('midfill.setToken', async () => ((await askForToken(context.secrets)) ? restart() : undefined)),
    command('midfill.showOutput', () => output.show()),
    command('midfill.showDoctor', showDoctor),
    command('midfill.showMenu', showMenu),
    command('midfill.acceptWord', () => shown.acceptPart('editor.action.inlineSuggest.acceptNextWord')),
    command('midfill.acceptLine', () => shown.acceptPart('editor.action.inlineSuggest.acceptNextLine')),
    vscode.window.onDidChangeActiveTextEditor((editor) => focus(client, editor)),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (CLIENT_SETTINGS.some((key) => change.affectsConfiguration(`midfill.${key}`))) {
        void restart();
      }
    }),
  );
  await restart();
}

export function deactivate(): Promise<void> {
  turn = turn.then(stop);
  return turn;
}

async function stop(): Promise<void> {
  const running = client;
  client = undefined;
  try {
    await running?.dispose();
  } catch {
    // A server that never started, or does not answer any more, cannot be stopped: there is nothing to undo.
  }
}

/** Runs one of the server's commands; the language client registers them while the server runs. */
async function onServer<T>(name: string): Promise<T | undefined> {
  if (client?.isRunning()) {
    return vscode.commands.executeCommand<T>(name);
  }
  return void vscode.window.showInformationMessage('Midfill: the language server is not running.');
}

async function showDoctor(): Promise<void> {
  const content = await onServer<string>('midfill.doctor');
  if (content) {
    await vscode.window.showTextDocument(await vscode.workspace.openTextDocument({ content }));
  }
}

async function showMenu(): Promise<void> {
  const entries = [
    ['$(circle-slash) Switch completions on or off', 'midfill.toggleEnabled'],
    ['$(pulse) Why is nothing shown?', 'midfill.showDoctor'],
    ['$(key) Set API key', 'midfill.setToken'],
    ['$(output) Show output', 'midfill.showOutput'],
    ['$(debug-restart) Restart the language server', 'midfill.restart'],
  ].map(([label, run]) => ({ label, run }));
  const chosen = await vscode.window.showQuickPick(entries, { title: 'Midfill' });
  if (chosen) {
    await vscode.commands.executeCommand(chosen.run);
  }
}
