import * as vscode from 'vscode';
import { isOn } from './overrides';

/** Switches completions on or off where the setting is already made, else for the user. */
export async function toggle(): Promise<void> {
  const settings = vscode.workspace.getConfiguration('midfill');
  const inWorkspace = settings.inspect('enable')?.workspaceValue !== undefined;
  const { Global, Workspace } = vscode.ConfigurationTarget;
  await settings.update('enable', !settings.get('enable', true), inWorkspace ? Workspace : Global);
}

/** Switches completions on or off for the language of the active editor, in the user's `[language]` section. */
export async function toggleLanguage(): Promise<void> {
  const document = vscode.window.activeTextEditor?.document;
  if (!document) {
    return void vscode.window.showInformationMessage('Midfill: open a file of the language first.');
  }
  const scope = { languageId: document.languageId };
  const wanted = !isOn(scope);
  const settings = vscode.workspace.getConfiguration('midfill', scope);
  // What is the same for all languages is left to the setting for all: it is to have an effect when it changes.
  const value = wanted === vscode.workspace.getConfiguration('midfill').get('enable', true) ? undefined : wanted;
  await settings.update('enable', value, vscode.ConfigurationTarget.Global, true);
}
