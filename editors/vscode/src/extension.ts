import * as vscode from 'vscode';
import { focus } from './client';
import { CLIENT_SETTINGS } from './command';
import { Doctor } from './doctor';
import { showMenu } from './menu';
import { Service } from './service';
import { snooze } from './snooze';
import { Status } from './status';
import { Supervisor } from './supervisor';
import { toggle, toggleLanguage } from './toggle';
import { showWalkthrough, welcome } from './welcome';

let supervisor: Supervisor | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const output = vscode.window.createOutputChannel('Midfill', { log: true });
  const status = new Status();
  const service = new Service(context.secrets);
  const server = new Supervisor(context.extensionPath, service, output, status);
  supervisor = server;
  const doctor = new Doctor(context.extension.packageJSON.version, server, service, status);

  const command = (name: string, run: () => unknown) => vscode.commands.registerCommand(name, run);
  context.subscriptions.push(
    output,
    status,
    command('midfill.restart', () => server.restart()),
    command('midfill.toggleEnabled', toggle),
    command('midfill.toggleLanguage', toggleLanguage),
    command('midfill.chooseSnooze', () => snooze(server)),
    command('midfill.useLocal', () => service.useLocal()),
    command('midfill.useTeam', () => service.useTeam()),
    command('midfill.signIn', () => service.signIn()),
    command('midfill.signOut', () => service.signOut()),
    command('midfill.showOutput', () => output.show()),
    command('midfill.openLog', () => (server.running ? vscode.commands.executeCommand('midfill.showLog') : output.show())),
    command('midfill.showDoctor', () => doctor.show()),
    command('midfill.showMenu', () => showMenu(server, service, status)),
    command('midfill.showWalkthrough', showWalkthrough),
    command('midfill.acceptWord', () => server.shown.acceptPart('editor.action.inlineSuggest.acceptNextWord')),
    command('midfill.acceptLine', () => server.shown.acceptPart('editor.action.inlineSuggest.acceptNextLine')),
    vscode.workspace.registerTextDocumentContentProvider('midfill', doctor),
    service.onDidChangeKey(() => void server.restart()),
    vscode.window.onDidChangeActiveTextEditor((editor) => {
      status.refresh();
      focus(server.running, editor);
    }),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (CLIENT_SETTINGS.some((key) => change.affectsConfiguration(`midfill.${key}`))) {
        void server.restart();
      }
      status.refresh();
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => void server.restart()),
  );
  void welcome(context.globalState);
  await server.restart();
}

export function deactivate(): Promise<void> | undefined {
  return supervisor?.stop();
}
