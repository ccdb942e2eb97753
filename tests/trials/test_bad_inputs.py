"""What is wrong with a command, or with what it reads, is one line: no traceback, nothing written.

A row says which script, with which flags, what is damaged before it starts, and what the error must
say. Rows on photos and labels are in test_bad_pictures.py, on weights and SavedModels in
test_bad_weights.py and test_bad_saved_models.py. New categories are more rows.
"""

import collections
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from trials.bad_inputs import (
    Case,
    bytes_changed,
    changed,
    check,
    content,
    error_of,
    filled,
    replaced,
    without,
)


def set_to(*path: str, value: object) -> Callable[[dict], None]:
    """A change: the key at the end of the path has this value."""

    def change(tree: dict) -> None:
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = value

    return change


TRAIN = "--workdir={new} --data_dir={data} {recipe}"
RESUME = "--workdir={run} --data_dir={data} {recipe}"
COMPARE = "--workdirs={run},{run} --data_dir={data} --names=a,b --output={new}"
EVALUATE = "--workdir={run} --data_dir={data}"

# Flags after those of a training that would run -> what the error says.
_TRAIN_FLAGS = [
    ("--recipe=deeplab", "unknown recipe 'deeplab'; known: "),
    ("--recipe=", "unknown recipe ''; known: "),
    (
        "--train.strategy=two",
        "--train.strategy=two: expected auto|mirrored|multi_worker|one_device",
    ),
    ("--train.precision=half", "--train.precision=half: expected float32|bfloat16|float16"),
    ("--train.precision=", "--train.precision=: expected float32|bfloat16|float16; got ''"),
    ("--train.accumulation_steps=0", "--train.accumulation_steps must be at least 1; got 0"),
    ("--train.accumulation_steps=1.5", "--train.accumulation_steps=1.5: expected integer"),
    ("--train.accumulation_steps=3", "--train.batch_size must be a multiple of 3, 1 replica(s)"),
    ("--train.ema_decay=1", "--train.ema_decay must be below 1; got 1"),
    ("--train.ema_decay=0", "--train.ema_decay must be above 0; got 0"),
    ("--train.ema_decay=high", "--train.ema_decay=high: expected number"),
    ("--train.remat=maybe", "--train.remat=maybe: expected true|false"),
    ("--train.jit_compile=2", "--train.jit_compile=2: expected true|false"),
    ("--train.jit_compile=true --train.remat=true", "--train.jit_compile must be false with"),
    ("--train.recover=often", "--train.recover=often: expected true|false"),
    ("--train.patience=0", "--train.patience must be at least 1; got 0"),
    ("--train.patience=-1", "--train.patience must be at least 1; got -1"),
    ("--train.scale_lr=16", "--train.scale_lr=16: expected true|false"),
    ("--train.batch_size=0", "--train.batch_size must be at least 1; got 0"),
    ("--train.batch_size=99999999999999999999", "--train.batch_size must be at most 9223372036"),
    ("--train.steps=0", "--train.steps must be at least 1; got 0"),
    ("--train.steps=1e3", "--train.steps=1e3: expected integer"),
    ("--train.steps=99999999999999999999", "--train.steps must be at most 9223372036854775807"),
    ("--train.epochs=0", "--train.epochs must be above 0; got 0"),
    ("--train.epochs=nan", "--train.epochs=nan: expected number"),
    ("--train.epochs=1e400", "--train.epochs=1e400: expected number"),
    ("--train.seed=-1", "--train.seed must be at least 0; got -1"),
    ("--train.seed=4294967296", "--train.seed must be at most 4294967295; got 4294967296"),
    ("--train.log_every=0", "--train.log_every must be at least 1; got 0"),
    ("--train.split=vall", "no 'vall' split of shapes; known: train, val. --train.split"),
    ("--train.devices=GPU:7", "--train.devices must be different devices of this machine"),
    ("--train.devices=CPU:0,CPU:0", "--train.devices must be different devices of this machine"),
    ("--train.strategy=multi_worker", "TF_CONFIG must name the workers with --train.strategy"),
    ("--train.log_evry=5", "Unknown command line flag 'train.log_evry'. Did you mean: train.log_e"),
    ("--trian.steps=5", "Unknown command line flag 'trian.steps'. Did you mean --train.steps?"),
    ("--fine_tune_batch_norm=false", "Unknown command line flag 'fine_tune_batch_norm'"),
    ("--model=unet", "--model=unet: expected deeplabv3plus|fastfcn|classifier"),
    ("--model=fastfcn", "--model.atrous_rates does not apply to model fastfcn, which has --model."),
    ("--model.backbone=vgg16", "backbone 'vgg16'"),
    (
        "--model.batch_norm=sync",
        "--model.batch_norm=sync: expected synchronized|per_replica|frozen",
    ),
    ("--model.output_stride=12", "--model.output_stride=12: expected 8|16|32"),
    ("--model.atrous_rates=0", "--model.atrous_rates must be at least 1; got (0,)"),
    ("--model.multi_grid=1,2", "--model.multi_grid=1,2: expected integer,integer,integer"),
    ("--model.decoder_features=conv5", "--model.decoder_features=conv5: expected conv3|conv2"),
    ("--model.decoder_convs=3:0", "--model.decoder_convs must be one or more pairs of kernel"),
    ("--model.dropout=1", "--model.dropout must be below 1; got 1"),
    ("--optimizer=lion", "--optimizer=lion: expected sgd|adamw"),
    ("--optimizer.clip_norm=0", "--optimizer.clip_norm must be above 0; got 0"),
    ("--optimizer.clip_norm=nan", "--optimizer.clip_norm=nan: expected number"),
    ("--optimizer.beta_1=0.5", "--optimizer.beta_1 does not apply to optimizer sgd"),
    ("--optimizer.momentum=1", "--optimizer.momentum must be below 1; got 1"),
    (
        "--optimizer.lr_multipliers=neck_:2",
        "--optimizer.lr_multipliers: no trainable weight begins",
    ),
    (
        "--optimizer.lr_multipliers=logits",
        "--optimizer.lr_multipliers=logits: expected text:number",
    ),
    ("--schedule=exponential", "--schedule=exponential: expected poly|cosine|step"),
    ("--schedule.base_lr=-1", "--schedule.base_lr must be at least 0; got -1"),
    ("--schedule.base_lr=inf", "--schedule.base_lr=inf: expected number"),
    ("--schedule.warmup_steps=9", "--schedule.warmup_steps must be below the length of training"),
    ("--loss=dice", "--loss=dice: expected cross_entropy|focal|lovasz"),
    ("--loss=focal --loss.gamma=-1", "--loss.gamma must be at least 0; got -1"),
    ("--loss.class_balance=yes", "--loss.class_balance=yes: expected none|median_frequency"),
    ("--loss.class_weights=1,x", "--loss.class_weights=1,x: expected number"),
    ("--loss.class_weights=1,2", "--loss.class_weights must be a number for each of 5 classes"),
    ("--loss.class_weights=0,0,0,0,0", "--loss.class_weights must have a number above 0"),
    ("--loss.class_weights=1,1,1,1,-1", "--loss.class_weights must be at least 0; got"),
    ("--loss.class_weights=1,1,1,1,nan", "--loss.class_weights=1,1,1,1,nan: expected number"),
    ("--loss.label_smoothing=1", "--loss.label_smoothing must be below 1; got 1"),
    ("--loss.top_k_percent_pixels=0", "--loss.top_k_percent_pixels must be above 0; got 0"),
    ("--loss.hard_example_mining_step=5", "--loss.hard_example_mining_step must be 0 where"),
    ("--augment=random_cut", "unknown kind of --augment 'random_cut'"),
    ("--augment=random_flip", "--augment must bring all images to one size"),
    ("--augment=", "--augment must bring all images to one size"),
    ("--augment.random_crop.size=0", "--augment.random_crop.size must be at least 1; got 0"),
    ("--augment.random_scale.low=3", "--augment.random_scale.low must be at most high, 1.5; got 3"),
    ("--augment.random_blur.size=3", "Unknown command line flag 'augment.random_blur.size'"),
    ("--dataset.num_examples=0", "--dataset.num_examples must be at least 4; got 0"),
    ("--dataset.images_dir=photos", "--dataset.images_dir does not apply to dataset shapes"),
    ("--predict=tiles", "--predict=tiles: expected whole_image|resized_image|sliding_window|"),
    ("--predict=classify", "--eval.best_metric must be one of top_1, top_5; got 'mean_iou'"),
    ("--predict.output_stride=3", "--predict.output_stride=3: expected 8|16|32"),
    ("--predict.scales=1e300", "--predict.scales must be at most 16; got (1e+300,)"),
    ("--predict.pad_size=513", "--predict.pad_size=513: expected integer,integer"),
    ("--predict.pad_size=99999999999,1", "--predict.pad_size must be at most 65535; got (9999"),
    (
        "--eval.best_metric=f1",
        "--eval.best_metric must be one of mean_iou, pixel_accuracy, mean_class_accuracy, freq",
    ),
    ("--eval.split=vall", "no 'vall' split of shapes; known: train, val. --train.split and --eval"),
    ("--eval.excluded_classes=9", "--eval.excluded_classes must be among the classes 0..4; got 9"),
    ("--eval.excluded_classes=-1", "--eval.excluded_classes must be at least 0; got (-1,)"),
    ("--eval.excluded_classes=0,1,2,3,4", "--eval.excluded_classes must leave a class; got all 5"),
    ("--init_weights=/nowhere", "/nowhere"),
    ("--dry_run=maybe", "--dry_run=maybe: expected true or false"),
    ("--workdir=", "--workdir must be given and not empty"),
    ("--workdir=gs://bucket/run", "'gs://bucket/run' must be a path of this machine"),
    ("photos", "unexpected argument 'photos'; flags are written --name=value"),
]

# Script -> (flags, what the error says).
_FLAGS = {
    "evaluate": [
        ("", "--workdir must be given and not empty"),
        ("--workdir=", "--workdir must be given and not empty"),
        (f"{EVALUATE} --output={{run}}/a.html", "--output must name a JSON file; "),
        (f"{EVALUATE} --output={{run}}/a.csv", "--output must name a JSON file; "),
        (f"{EVALUATE} --output={{run}}/recipe.json", "recipe.json is a file of the training run."),
        (f"{EVALUATE} --output={{run}}/metrics.json", "metrics.csv is a file of the training run."),
        (f"{EVALUATE} --output={{new}}/scores/", "it names a directory. Name another file with"),
        (f"{EVALUATE} --report_images=-1", "--report_images=-1: -1 is not an integer in the range"),
        (f"{EVALUATE} --report_images=101", "--report_images=101: 101 is not an integer in the ra"),
        (f"{EVALUATE} --report_images=1.5", "--report_images=1.5: invalid literal"),
        (f"{EVALUATE} --eval.boundary_iou=2", "--eval.boundary_iou=2: expected true|false"),
        (f"{EVALUATE} --eval.trimap_widths=0", "--eval.trimap_widths must be at least 1; got (0,)"),
        (f"{EVALUATE} --checkpoint=first", "--checkpoint=first: must be best, last, ema or a step"),
        (f"{EVALUATE} --checkpoint={'9' * 30}", "must be best, last, ema or a step"),
        (f"{EVALUATE} --output=", "--output must be given and not empty"),
        (f"{EVALUATE} --eval.excluded_classes=99", "--eval.excluded_classes must be among the cla"),
        (f"{EVALUATE} --eval.excluded_classes=0,1,2,3,4", "--eval.excluded_classes must leave a"),
        (f"{EVALUATE} --eval.best_metric=f1", "--eval.best_metric must be one of mean_iou"),
        (f"{EVALUATE} --eval.split=vall", "no 'vall' split of shapes; known: train, val."),
        (f"{EVALUATE} --predict=classify", "--predict=classify is for a network with one class pe"),
        (f"{EVALUATE} --predict.output_stride=3", "--predict.output_stride=3: expected 8|16|32"),
        (f"{EVALUATE} --predict.scales=", "--predict.scales must be one or more numbers; got ()"),
        (f"{EVALUATE} --predict.scales=0", "--predict.scales must be above 0; got (0.0,)"),
        (f"{EVALUATE} --predict.scales=10000", "--predict.scales must be at most 16; got (10000.0"),
        (f"{EVALUATE} --predict.pad_size=1,1", "Set --predict.pad_size to a larger size"),
        (f"{EVALUATE} --predict.window_size=9", "--predict.window_size does not apply to predict"),
        (f"{EVALUATE} --dataset=folder", "needs --dataset.images_dir and --dataset.labels_dir"),
        (f"{EVALUATE} --train.steps=1", "Unknown command line flag 'train.steps'"),
    ],
    "compare": [
        ("", "--workdirs, --output must be given and not empty"),
        ("--workdirs={run} --output={new}", "--workdirs must name two; got "),
        ("--workdirs={run},{run},{run} --output={new}", "--workdirs must name two; got "),
        ("--workdirs={run},{run} --output={new}", "--names must be 2 different ones, one for each"),
        (f"{COMPARE} --names=a,a", "--names must be 2 different ones, one for each"),
        (f"{COMPARE} --names=a,", "--names must be 2 different ones, one for each"),
        ("--workdirs={run},{new} --names=a,b --output={new}2", "no recipe.json in "),
        ("--workdirs={run},{run}/best --names=a,b --output={new}", "no recipe.json in "),
        ("--workdirs={run},{run} --names=a,b --output={run}/recipe.json", "Name another directory"),
        (f"{COMPARE} --report_images=-1", "--report_images=-1: -1 is not an integer in the range"),
        (f"{COMPARE} --report_images=all", "--report_images=all: invalid literal"),
        (f"{COMPARE} --eval.split=vall", "no 'vall' split of shapes; known: train, val."),
        (f"{COMPARE} --eval.trimap_widths=2,1", "--eval.trimap_widths must be different and asc"),
        (f"{COMPARE} --eval.boundary_iou=maybe", "--eval.boundary_iou=maybe: expected true|false"),
        (f"{COMPARE} --predict=classify", "--predict=classify of a gives one to each image"),
        (f"{COMPARE} photos", "unexpected argument 'photos'"),
    ],
    "predict": [
        ("--workdir={run}", "--images, --output must be given and not empty"),
        ("--images={run} --output={new}", "give one of --model and --workdir"),
        (
            "--workdir={run} --model={run} --images={run} --output={new}",
            "give one of --model and --workdir",
        ),
        (
            "--workdir={run} --images={run}/val.png --output={new} --predict.scales=-1",
            "--predict.scales must be above 0; got (-1.0,)",
        ),
        ("--workdir={run} --images= --output={new}", "no images at ''"),
    ],
    "export": [
        ("--workdir={run}", "--output must be given and not empty"),
        ("--output={new}", "--workdir must be given and not empty"),
        ("--workdir={run} --output={new} --format=onxx", "--format=onxx: value should be one of"),
    ],
    "server_files": [
        ("", "--eval.split must be given and not empty"),
        ("--workdir={run} --eval.split=test", "--output must be given and not empty"),
        ("--workdir={run} --eval.split=test --output={run}", "it has no made_by.json"),
        ("--workdir={run} --eval.split=val --output={new}", "whose form is known; got shapes"),
        (
            "--workdir={run} --dataset=release --eval.split=test --output={new} --data_dir={data}",
            "voc2012 is not prepared",
        ),
        ("--check={new} --eval.split=test", "there is no directory or archive"),
        ("--check={run} --eval.split=test --competition=x", "--competition must be comp6 (trained"),
        (
            "--check={run} --eval.split=test --dataset.name=camvid",
            "whose form is known; got camvid",
        ),
        ("--check={run} --eval.split=test --data_dir={data}", "voc2012 is not prepared"),
    ],
    "benchmark": [
        ("", "give one of --model and --recipe"),
        ("--model=fastfcn --recipe=quickstart_shapes", "give one of --model and --recipe"),
        ("--model=unet", "--model=unet: expected deeplabv3plus|fastfcn|classifier"),
        ("--recipe=quickstart_shapes --height=0", "--height=0: 0 is not an integer in the range"),
        ("--recipe=quickstart_shapes --height=100000", "--height=100000: 100000 is not an integer"),
        ("--recipe=quickstart_shapes --width=-1", "--width=-1: -1 is not an integer in the range"),
        ("--recipe=quickstart_shapes --num_classes=1000000000", "--num_classes=1000000000: "),
        ("--recipe=quickstart_shapes --batch_size=0", "--batch_size=0: 0 is not an integer"),
        ("--recipe=quickstart_shapes --rounds=0", "--rounds=0: 0 is not an integer in the range"),
        ("--recipe=quickstart_shapes --precision=half", "--precision=half: value should be one of"),
        (
            "--recipe=quickstart_shapes --height=60000 --batch_size=100",
            "Give a smaller --batch_size, --height or --width.",
        ),
    ],
    "selfcheck": [
        ("", "--recipe is missing; known: "),
        ("--recipe=quickstart_shapes --logical_cpus=1", "--logical_cpus=1: 1 is not an integer"),
        ("--recipe=quickstart_shapes --logical_cpus=1000", "--logical_cpus=1000: 1000 is not an"),
        ("--recipe=quickstart_shapes --steps=0", "--steps=0: 0 is not an integer in the range"),
        ("--recipe=quickstart_shapes --train.devices=GPU:3", "--train.devices must be different"),
        (
            "--recipe=quickstart_shapes --logical_cpus=3",
            "--train.batch_size must be a multiple of 3, the number of replicas; got 8",
        ),
    ],
    "check_dataset": [
        ("", "--dataset is missing; it must be one of folder, shapes"),
        ("--dataset=voc2012", "--dataset=voc2012: expected folder|shapes|release"),
        ("--dataset=release --dataset.name=voc", "--dataset.name must be one of ade20k, camvid"),
    ],
    "prepare_dataset": [
        ("", "--dataset is missing; it must be one of folder, shapes"),
        ("--dataset=shapes --num_samples=0", "--num_samples=0: 0 is not a positive integer"),
        ("--dataset=shapes --dataset.num_examples=0", "--dataset.num_examples must be at least 4"),
    ],
    "convert_weights": [
        ("", "--input, --output must be given and not empty"),
        (
            "--input={new} --output={new}2 --num_classes=1",
            "--num_classes=1: 1 is not an integer in",
        ),
        (
            "--input={new} --output={new}2 --output_stride=7",
            "--output_stride=7: value should be one",
        ),
        (
            "--input={new} --output={new}2 --released=nothing",
            "'nothing'; known: mobilenetv2_ade20k",
        ),
        ("--input={new} --output={new}2 --dataset=nothing", "'nothing'; known: ade20k, camvid"),
    ],
}

ARGUMENTS = [
    *(Case("arguments", "train", f"{TRAIN} {flags}", says) for flags, says in _TRAIN_FLAGS),
    *(
        Case("arguments", script, flags, says)
        for script, rows in _FLAGS.items()
        for flags, says in rows
    ),
]

FILES = [
    Case(
        "files", "train", f"{TRAIN} --workdir={{run}}/recipe.json", "recipe.json cannot be written"
    ),
    Case("files", "train", f"{TRAIN} --data_dir={{run}}/recipe.json", "Not a directory"),
    Case("files", "train", f"{TRAIN} --init_weights={{run}}/best", "no recipe.json in "),
    Case("files", "evaluate", "--workdir={new}", "there is no directory "),
    Case(
        "files", "evaluate", "--workdir={run}/recipe.json --output={new}", "there is no directory "
    ),
    Case("files", "evaluate", "--workdir=gs://bucket/run", "a path of this machine"),
    Case("files", "evaluate", "--workdir={run}/best", "no recipe.json in "),
    Case(
        "files",
        "evaluate",
        f"{EVALUATE} --output={{run}}/recipe.json/x",
        "recipe.json is not a directory. Name another file with --output.",
    ),
    Case("files", "evaluate", f"{EVALUATE} --output={{run}}", "Name another file with --output"),
    Case(
        "files",
        "evaluate",
        EVALUATE,
        "evaluation.json cannot be written: it names a directory. Name another file with --outp",
        lambda run: (run / "evaluation.json").mkdir(),
    ),
    Case("files", "evaluate", "--workdir={run} --data_dir={run}/recipe.json", "Not a directory"),
    Case("files", "predict", "--workdir={run} --images={new} --output={new}2", "no images at "),
    Case("files", "predict", "--workdir={run} --images={run}/best --output={new}", "no images at "),
    Case(
        "files",
        "predict",
        "--model={run} --images={run}/best --output={new}",
        "no images at ",
    ),
    Case("files", "export", "--workdir={new} --output={new}2", "there is no directory "),
    Case("files", "export", "--workdir={run} --output={run}", "must be empty or absent"),
    Case(
        "files", "export", "--workdir={run} --output={run}/recipe.json", "must be empty or absent"
    ),
    Case("files", "check_dataset", "--dataset=folder", "needs --dataset.images_dir and --dataset."),
    Case(
        "files",
        "check_dataset",
        "--dataset=folder --dataset.images_dir={new} --dataset.labels_dir={run}",
        "there is no directory ",
    ),
    Case(
        "files",
        "check_dataset",
        "--dataset=release --dataset.name=voc2012 --data_dir={new}",
        "voc2012 is not prepared",
    ),
    Case(
        "files",
        "prepare_dataset",
        "--dataset=release --dataset.name=voc2012 --data_dir={new} --raw_dir={new}2",
        "--raw_dir must name one.",
    ),
    Case("files", "convert_weights", "--input={new} --output={new}2", "there is no file "),
    Case(
        "files",
        "convert_weights",
        "--input={run}/recipe.json --output={run}",
        "must be empty or absent",
    ),
    Case(
        "files", "convert_weights", "--input={run}/recipe.json --output={new}", "not a file of wei"
    ),
]

_RECIPES = [
    ("not readable JSON: Expecting", content("recipe.json", "{")),
    ("not readable JSON: Expecting", content("recipe.json", "")),
    ("not readable JSON: ", content("recipe.json", b"\0" * 1000)),
    ("text in UTF-8", content("recipe.json", b"\xff\xfe{")),
    ("the top level must be an object; got []", content("recipe.json", "[]")),
    ("must nest at most 32 deep", content("recipe.json", "[" * 10**5)),
    ("must nest at most 32 deep", content("recipe.json", '{"model":' * 900 + "1" + "}" * 900)),
    ("it must have at most", content("recipe.json", '{"a": "' + "x" * 2**24 + '"}')),
    ("version must be there once", content("recipe.json", '{"version": 3, "version": 3}')),
    ("version must be 3; got None", content("recipe.json", "{}")),
    ("version must be 3; got 9", changed("recipe.json", set_to("version", value=9))),
    ("version must be 3; got 3.0", changed("recipe.json", set_to("version", value=3.0))),
    ("it must be a regular file", replaced("recipe.json", lambda path: path.mkdir())),
    ("it must be a regular file", replaced("recipe.json", lambda path: os.mkfifo(path))),
    ("unknown part of a recipe 'protocol'", changed("recipe.json", set_to("protocol", value="x"))),
    ("loss must be there; got None", changed("recipe.json", lambda tree: tree.pop("loss"))),
    ("model must be an object; got None", changed("recipe.json", set_to("model", value=None))),
    ("augment must be a list; got 'x'", changed("recipe.json", set_to("augment", value="x"))),
    *(
        (says, changed("recipe.json", set_to(*path.split("."), value=value)))
        for path, value, says in [
            ("predict.flip", "false", "predict.flip must be true or false; got 'false'"),
            ("predict.flip", 0, "predict.flip must be true or false; got 0"),
            ("predict.scales", 1.0, "predict.scales must be number,...; got 1.0"),
            ("predict.scales", [1, float("nan")], "predict.scales[1] must be a finite number"),
            ("predict.kind", "tiles", "unknown predict.kind 'tiles'"),
            ("model.decoder", "false", "model.decoder must be true or false; got 'false'"),
            ("model.aspp_channels", -1, "model.aspp_channels must be at least 1; got -1"),
            ("model.aspp_channels", 8.0, "model.aspp_channels must be an integer; got 8.0"),
            ("model.kind", "fastfcn", "unknown option of model 'atrous_rates'"),
            ("model.backbone", "vgg16", "backbone 'vgg16'"),
            ("model.decoder_convs", [[3]], "model.decoder_convs must be integer:integer"),
            ("train.seed", 2**70, "train.seed must be an integer; got 1.18"),
            ("train.seed", -1, "train.seed must be at least 0; got -1"),
            ("train.remat", 1, "train.remat must be true or false; got 1"),
            ("train.devices", "CPU:0", "train.devices must be text,...; got 'CPU:0'"),
            ("dataset.num_examples", True, "dataset.num_examples must be an integer; got True"),
            ("dataset.kind", "../shapes", "unknown dataset.kind '../shapes'"),
            ("dataset.colour", "red", "unknown option of dataset 'colour'"),
            ("schedule.base_lr", 1e999, "schedule.base_lr must be a finite number; got inf"),
            ("eval.split", 7, "eval.split must be text; got 7"),
            ("expected_mean_iou", "51", "expected_mean_iou must be a number or null; got '51'"),
        ]
    ),
]

_SPECS = [
    ("not readable JSON: ", content("dataset.json", "{")),
    ("name must be there; it is missing", content("dataset.json", "{}")),
    ("the top level must be an object; got []", content("dataset.json", "[]")),
    ("it must be a regular file", replaced("dataset.json", lambda path: os.mkfifo(path))),
    ("palette must be there; it is missing", changed("dataset.json", lambda t: t.pop("palette"))),
    ("palette[1] must be a list of 3", changed("dataset.json", lambda t: t["palette"][1].pop())),
    *(
        (says, changed("dataset.json", set_to(*path.split("."), value=value)))
        for path, value, says in [
            ("pallette", [], "unknown key 'pallette'; known: class_names"),
            ("name", None, "name must be text; got None"),
            ("class_names", "abcde", "class_names must be a list; got 'abcde'"),
            ("class_names", ["a", "b", "c", "d", 5], "class_names[4] must be text; got 5"),
            ("class_names", ["a", "b", "c", "d", "a"], "'a' is the name of classes 0 and 4"),
            ("class_names", ["a", "b", "c", "d", " "], "class_names[4] must be a printable name"),
            ("class_names", ["a", "b", "c", "d", "e\n"], "class_names[4] must be a printable name"),
            ("class_names", [], "class_names must name one or more classes"),
            ("class_names", ["a", "b", "c", "d"], "palette must have one color per class (4)"),
            ("ignore_label", 2, "ignore_label must not be one of the classes 0..4; got 2"),
            ("ignore_label", 2**31, "ignore_label must be an integer of 32 bits; got 2147483648"),
            ("ignore_label", 255.0, "ignore_label must be an integer; got 255.0"),
            ("palette", [[0, 0, 999]] * 5, "palette[0] must be a color of 0..255; got (0, 0, 999)"),
            ("palette", [["0", 0, 0]] * 5, "palette[0][0] must be an integer; got '0'"),
            ("splits", [1], "splits must be an object; got [1]"),
            ("splits.train", -1, "splits.train must be at least 0; got -1"),
            ("splits.train", "8", "splits.train must be an integer; got '8'"),
        ]
    ),
]

_BEST = [
    ("not readable JSON", content("best/best.json", "{")),
    ("step must be", content("best/best.json", "{}")),
    ("must nest at most 32 deep", content("best/best.json", "[" * 10**5)),
    ("step must be an integer; got '1'", changed("best/best.json", set_to("step", value="1"))),
    ("step must be an integer; got True", changed("best/best.json", set_to("step", value=True))),
    ("mean_iou must be a finite", changed("best/best.json", set_to("mean_iou", value=1e999))),
    ("mean_iou must be a number", changed("best/best.json", set_to("mean_iou", value="high"))),
]

JSON = [
    *(
        Case("JSON", script, flags, says, damage)
        for i, (says, damage) in enumerate(_RECIPES)
        for script, flags in [
            ("evaluate", EVALUATE),
            # A few will do: the same function reads it.
            *([("export", "--workdir={run} --output={new}")] if i % 8 == 0 else []),
        ]
    ),
    *(Case("JSON", "evaluate", EVALUATE, says, damage) for says, damage in _SPECS),
    *(Case("JSON", "evaluate", EVALUATE, says, damage) for says, damage in _BEST),
    *(Case("JSON", "train", RESUME, says, damage) for says, damage in [*_RECIPES[:3], *_SPECS[:2]]),
    *(Case("JSON", "train", RESUME, says, damage) for says, damage in [_BEST[0], _BEST[3]]),
    Case("JSON", "train", RESUME, "no recipe.json", without("recipe.json")),
    Case("JSON", "train", RESUME, "no dataset.json", without("dataset.json")),
    Case("JSON", "evaluate", EVALUATE, "no dataset.json in ", without("dataset.json")),
    Case("JSON", "evaluate", EVALUATE, "no recipe.json in ", without("recipe.json")),
    Case(
        "JSON",
        "train",
        f"{RESUME} --loss.class_balance=median_frequency",
        "class_weights.json: class_weights.star must be at least 0; got -1.0. Remove the file",
        lambda run: [
            changed("recipe.json", set_to("loss", "class_balance", value="median_frequency"))(run),
            content(
                "class_weights.json",
                '{"class_weights": {"background": 1.0, "ellipse": 1.0, "polygon": 1.0,'
                ' "star": -1.0, "stroke": 1.0}}',
            )(run),
        ],
    ),
    Case(
        "JSON",
        "train",
        RESUME,
        "schedule.base_lr: 0.5 -> 0.05",
        changed("recipe.json", set_to("schedule", "base_lr", value=0.5)),
    ),
]

_DATA = "checkpoints/ckpt-2.data-00000-of-00001"
_BEST_DATA = "best/ckpt-1.data-00000-of-00001"
_DAMAGED = "does not fit this model or is damaged"
LAST = f"{EVALUATE} --checkpoint=last"
CHECKPOINTS = [
    *(
        Case("checkpoints", "evaluate", LAST, says, damage)
        for says, damage in [
            (_DAMAGED, content("checkpoints/ckpt-2.index", b"")),
            (_DAMAGED, content("checkpoints/ckpt-2.index", b"junk" * 1000)),
            (_DAMAGED, bytes_changed("checkpoints/ckpt-2.index", lambda data: data[:-9])),
            (_DAMAGED, replaced("checkpoints/ckpt-2.index", lambda path: path.mkdir())),
            (_DAMAGED, content(_DATA, b"")),
            (_DAMAGED, bytes_changed(_DATA, lambda data: data[: len(data) // 2])),
            (_DAMAGED, bytes_changed(_DATA, lambda data: bytes(len(data)))),
            (_DAMAGED, bytes_changed(_DATA, lambda data: bytes([data[0] ^ 1]) + data[1:])),
            (_DAMAGED, without(_DATA)),
            (
                _DAMAGED,
                lambda run: shutil.copy(
                    run / "best/ckpt-1.index", run / "checkpoints/ckpt-2.index"
                ),
            ),
            ("no checkpoint in ", without("checkpoints")),
            ("no checkpoint in ", replaced("checkpoints", lambda path: path.write_bytes(b""))),
            (_DAMAGED, changed("recipe.json", set_to("model", "aspp_channels", value=16))),
            (_DAMAGED, changed("recipe.json", set_to("model", "decoder", value=True))),
            (
                _DAMAGED,
                changed(
                    "dataset.json",
                    lambda tree: [
                        tree["class_names"].append("six"),
                        tree["palette"].append([1, 2, 3]),
                    ],
                ),
            ),
        ]
    ),
    *(
        Case("checkpoints", "evaluate", EVALUATE, says, damage)
        for says, damage in [
            ("the best weights, of step 1, are missing", without("best/ckpt-1.index")),
            ("best", changed("best/best.json", set_to("step", value=7))),
            (_DAMAGED, without(_BEST_DATA)),
            (_DAMAGED, content("best/ckpt-1.index", b"junk")),
            (_DAMAGED, bytes_changed(_BEST_DATA, lambda data: data[:99])),
            ("no checkpoint in ", without("best", "checkpoints")),
        ]
    ),
    Case("checkpoints", "evaluate", f"{EVALUATE} --checkpoint=7", "no checkpoint of step 7 in "),
    Case("checkpoints", "evaluate", f"{EVALUATE} --checkpoint=0", "no checkpoint of step 0 in "),
    Case("checkpoints", "evaluate", f"{EVALUATE} --checkpoint=ema", "--train.ema_decay"),
    Case("checkpoints", "export", "--workdir={run} --output={new} --checkpoint=9", "of step 9 in "),
    Case(
        "checkpoints",
        "export",
        "--workdir={run} --output={new}",
        _DAMAGED,
        content("best/ckpt-1.index", b"junk"),
    ),
    Case("checkpoints", "train", RESUME, _DAMAGED, content("checkpoints/ckpt-2.index", b"junk")),
    Case("checkpoints", "train", RESUME, _DAMAGED, bytes_changed(_DATA, lambda data: data[:99])),
    Case("checkpoints", "train", RESUME, "metrics.csv", content("metrics.csv", "hello\n1\n")),
    Case("checkpoints", "train", RESUME, "metrics.csv", content("metrics.csv", b"\xff\xfe\0")),
    Case("checkpoints", "train", RESUME, "metrics.csv", lambda run: (run / "metrics.csv").mkdir()),
]


def _cluster(cluster: object, task: object) -> tuple[tuple[str, str], ...]:
    return (("TF_CONFIG", json.dumps({"cluster": cluster, "task": task})),)


_TWO = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
ENVIRONMENT = [
    *(
        Case("environment", "train", TRAIN, says, environment=variables)
        for says, variables in [
            ("TF_CONFIG must be JSON", (("TF_CONFIG", "{"),)),
            ("TF_CONFIG must be ", (("TF_CONFIG", "[]"),)),
            ("TF_CONFIG must be ", (("TF_CONFIG", "[" * 10**5),)),
            ("TF_CONFIG", (("TF_CONFIG", '{"cluster": 1}'),)),
            ("which worker this process is", _cluster(_TWO, {"type": "worker", "index": 2})),
            ("which worker this process is", _cluster(_TWO, {"type": "ps", "index": 0})),
            ("which worker this process is", _cluster(_TWO, {"type": "worker", "index": -1})),
            ("a:1 twice", _cluster({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0})),
            ("TF_CONFIG must have", _cluster({"ps": ["a:1"]}, {"type": "ps", "index": 0})),
            ("list of addresses", _cluster({"worker": "ab"}, {"type": "worker", "index": 0})),
        ]
    ),
    *(
        Case(
            "environment",
            script,
            flags,
            "KERAS_BACKEND must be tensorflow, or not set; got",
            environment=(("KERAS_BACKEND", backend),),
        )
        for script, flags, backend in [
            ("train", TRAIN, "jax"),
            ("evaluate", EVALUATE, "torch"),
            ("export", "--workdir={run} --output={new}", "nonsense"),
            ("check_dataset", "--dataset=shapes --data_dir={data}", "jax"),
        ]
    ),
]

CASES = [*ARGUMENTS, *FILES, *JSON, *CHECKPOINTS, *ENVIRONMENT]


@pytest.mark.slow  # most take about a second, which is TensorFlow's and the network's
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.category}-{case.script}")
def test_a_bad_input_is_one_line_and_changes_nothing(
    scripts, run_copy, data_dir, recipe_flags, case
):
    check(case, scripts, run_copy, data_dir, recipe_flags)


def test_no_row_is_there_twice():
    shown = collections.Counter(
        (case.script, case.flags, case.says, case.environment) for case in [*ARGUMENTS, *FILES]
    )
    assert [row for row, times in shown.items() if times > 1] == []


@pytest.mark.slow  # TensorFlow is imported by a process of its own
@pytest.mark.parametrize("flags", ["--predict.scales=0", "--checkpoint=7"])
def test_a_fork_says_what_a_fresh_process_says(scripts, run_copy, data_dir, root, flags):
    arguments = filled(f"{EVALUATE} {flags}", run_copy, data_dir, [])
    command = [sys.executable, "scripts/evaluate.py", *arguments]
    fresh = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    forked = scripts.run("evaluate", *arguments)
    assert (forked.code, error_of(forked.stderr)) == (fresh.returncode, error_of(fresh.stderr))
