import * as vscode from 'vscode';
import type { Supervisor } from './supervisor';

export const SNOOZE = 'midfill.snooze';
const MINUTES = [5, 15, 60, 480];

/** Asks for how long, and tells the server. */
export async function snooze(supervisor: Supervisor): Promise<void> {
  if (!supervisor.has(SNOOZE)) {
    return void vscode.window.showInformationMessage('Midfill: the language server is not running, or too old to snooze.');
  }
  const entries = MINUTES.map((minutes) => ({
    label: minutes < 60 ? `${minutes} minutes` : `${minutes / 60} ${minutes === 60 ? 'hour' : 'hours'}`,
    minutes,
  }));
  const title = 'Midfill: no completions for';
  const chosen = await vscode.window.showQuickPick([...entries, { label: 'End the snooze', minutes: 0 }], { title });
  if (chosen) {
    await vscode.commands.executeCommand(SNOOZE, chosen.minutes);
  }
}
