import * as vscode from 'vscode';
import { isOn } from './overrides';
import type { Service } from './service';
import { SNOOZE } from './snooze';
import type { Status } from './status';
import type { Supervisor } from './supervisor';

interface Entry extends vscode.QuickPickItem {
  run?: string;
  argument?: unknown;
}

/** What a click on the status bar item offers. */
export async function showMenu(supervisor: Supervisor, service: Service, status: Status): Promise<void> {
  const chosen = await vscode.window.showQuickPick(entries(supervisor, service), {
    title: `Midfill: ${status.message}`,
  });
  if (chosen?.run) {
    await vscode.commands.executeCommand(chosen.run, chosen.argument);
  }
}

function entries(supervisor: Supervisor, service: Service): Entry[] {
  const language = vscode.window.activeTextEditor?.document.languageId;
  const enabled = vscode.workspace.getConfiguration('midfill').get('enable', true);
  const section = (label: string): Entry => ({ label, kind: vscode.QuickPickItemKind.Separator });
  const menu: Entry[] = [
    { label: `$(circle-slash) Switch completions ${enabled ? 'off' : 'on'}`, run: 'midfill.toggleEnabled' },
  ];
  if (language) {
    const off = isOn({ languageId: language }) ? 'off' : 'on';
    menu.push({ label: `$(code) Switch completions ${off} for ${language}`, run: 'midfill.toggleLanguage' });
  }
  if (supervisor.has(SNOOZE)) {
    menu.push({ label: '$(clock) Snooze…', run: 'midfill.chooseSnooze' });
  }
  return [
    ...menu,
    section('service'),
    { label: '$(vm) Use the local model', description: mark(service.endpoint === 'local'), run: 'midfill.useLocal' },
    {
      label: '$(server) Use a team endpoint…',
      description: service.endpoint === 'local' ? '' : service.endpoint,
      run: 'midfill.useTeam',
    },
    { label: '$(key) Sign in…', run: 'midfill.signIn' },
    section('help'),
    { label: '$(pulse) Why is nothing shown?', run: 'midfill.showDoctor' },
    { label: '$(output) Output', run: 'midfill.showOutput' },
    { label: "$(list-flat) Language server's log", run: 'midfill.openLog' },
    { label: '$(debug-restart) Restart the language server', run: 'midfill.restart' },
    { label: '$(gear) Settings', run: 'workbench.action.openSettings', argument: '@ext:midfill.midfill' },
  ];
}

function mark(current: boolean): string {
  return current ? 'in use' : '';
}
