# Three roles: the instance joins its cluster, the agent pulls the image and writes logs, the trainer sees its prefixes.

data "aws_iam_policy_document" "instance_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "task_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }
  }
}

# What AmazonEC2ContainerServiceforEC2Role gives the ECS agent, without its wildcard actions, and within this account.
data "aws_iam_policy_document" "instance" {
  statement {
    sid = "Cluster"
    actions = [
      "ecs:DeregisterContainerInstance",
      "ecs:Poll",
      "ecs:RegisterContainerInstance",
      "ecs:StartTelemetrySession",
      "ecs:SubmitAttachmentStateChanges",
      "ecs:SubmitContainerStateChange",
      "ecs:SubmitTaskStateChange",
      "ecs:TagResource",
      "ecs:UpdateContainerInstancesState",
    ]
    resources = [
      "arn:${var.partition}:ecs:${var.region}:${var.account_id}:cluster/*",
      "arn:${var.partition}:ecs:${var.region}:${var.account_id}:container-instance/*",
    ]
  }

  # Agents that do not take the execution role for logs take this one.
  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.jobs.arn}:*"]
  }

  statement {
    sid       = "Endpoint"
    actions   = ["ec2:DescribeTags", "ecs:DiscoverPollEndpoint"]
    resources = ["*"] # Neither can be restricted to a resource.
  }
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "PullImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [aws_ecr_repository.trainer.arn]
  }

  statement {
    sid       = "RegistryToken"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # It cannot be restricted to a resource.
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.jobs.arn}:*"]
  }
}

data "aws_iam_policy_document" "job" {
  statement {
    sid       = "ReadBlobs"
    actions   = ["s3:GetObject"]
    resources = ["${var.bucket_arn}/datasets/*", "${var.bucket_arn}/runs/*"]
  }

  # Checkpoints that a newer one replaced are deleted.
  statement {
    sid       = "WriteRuns"
    actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:PutObject"]
    resources = ["${var.bucket_arn}/runs/*"]
  }

  # IfExists: so that a missing object is told from a forbidden one.
  statement {
    sid       = "ListBlobs"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["datasets/*", "runs/*"]
    }
  }

  statement {
    sid       = "DataKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role" "instance" {
  name               = "${var.prefix}-training-instance"
  description        = "Training instances: they join their cluster."
  assume_role_policy = data.aws_iam_policy_document.instance_trust.json
}

resource "aws_iam_role_policy" "instance" {
  name   = "access"
  role   = aws_iam_role.instance.id
  policy = data.aws_iam_policy_document.instance.json
}

resource "aws_iam_instance_profile" "instance" {
  name = aws_iam_role.instance.name
  role = aws_iam_role.instance.name
}

resource "aws_iam_role" "execution" {
  name               = "${var.prefix}-training-execution"
  description        = "The ECS agent for a job: image and logs."
  assume_role_policy = data.aws_iam_policy_document.task_trust.json
}

resource "aws_iam_role_policy" "execution" {
  name   = "access"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

resource "aws_iam_role" "job" {
  name               = "${var.prefix}-trainer"
  description        = "The trainer: datasets and runs."
  assume_role_policy = data.aws_iam_policy_document.task_trust.json
}

resource "aws_iam_role_policy" "job" {
  name   = "access"
  role   = aws_iam_role.job.id
  policy = data.aws_iam_policy_document.job.json
}
